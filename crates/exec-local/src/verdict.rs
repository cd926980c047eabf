//! How a run ended: from what the driver said, its parent reported and the kernel counted.

use forebay_exec::{CancelReason, Outcome};
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::output::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, TRACE_BYTES_MAX, cut, cut_front};
use crate::run::LocalRun;

const EXIT_VALUE_BYTES_MAX: usize = 5 << 20;
/// What a driver calls the death of a process beside it, from which it cannot tell whether it was
/// for memory.
const DIED_BESIDE: [&str; 3] = ["JavaKilled", "RKilled", "SparkEngineDied"];

#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) ok: bool,
    pub(crate) interrupted: bool,
    pub(crate) exit_value: Option<String>,
    pub(crate) ename: String,
    pub(crate) message: String,
    pub(crate) trace: String,
    pub(crate) cell: Option<usize>,
}

/// What the parent says about the worker's end.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) exit: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) cpu_ms: Option<u64>,
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) read_bytes: Option<u64>,
    pub(crate) write_bytes: Option<u64>,
}

impl LocalRun {
    pub(crate) fn outcome(&self) -> Outcome {
        let state = &self.state;
        let redacted = |text: &str| self.output.redactor.text(text);
        if self.output.is_over_limit() {
            return Outcome::OutputLimit {
                limit_bytes: self.limits.output_run_bytes,
            };
        }
        let stopped = state.canceled.is_some() || state.over_cpu;
        let canceled = |done: &Done| stopped && done.interrupted;
        if let Some(done) = state
            .done
            .as_ref()
            .filter(|done| done.ok && !canceled(done))
        {
            return Outcome::Succeeded {
                exit_value: done
                    .exit_value
                    .as_deref()
                    .map(|value| cut(&redacted(value), EXIT_VALUE_BYTES_MAX).to_owned()),
            };
        }
        if let Some(limit) = self.over_cpu() {
            return limit;
        }
        match state.canceled {
            Some(CancelReason::Requested) => return Outcome::Canceled,
            Some(CancelReason::TimedOut) => return Outcome::TimedOut,
            None => {}
        }
        // It was killed beside the driver, which lived to tell.
        let is_told = |done: &Done| {
            !DIED_BESIDE.contains(&done.ename.as_str()) || !self.group.counts().out_of_memory()
        };
        if let Some(done) = state.done.as_ref().filter(|done| is_told(done)) {
            return Outcome::Failed {
                ename: cut(&done.ename, NAME_BYTES_MAX).to_owned(),
                message: cut(&redacted(&done.message), MESSAGE_BYTES_MAX).to_owned(),
                trace: cut_front(&redacted(&done.trace), TRACE_BYTES_MAX).to_owned(),
                cell: done.cell,
            };
        }
        if state.fault.is_none() && self.group.counts().out_of_memory() {
            return Outcome::OutOfMemory {
                limit_bytes: self.limits.memory_bytes,
            };
        }
        self.crashed()
    }

    /// Whether it ended for its CPU time, also where only the kernel saw that (`RLIMIT_CPU`).
    fn over_cpu(&self) -> Option<Outcome> {
        let limit_ms = self.limits.cpu_ms?;
        let used_ms = self.usage().cpu_ms?;
        let signal = self.state.report.as_ref().and_then(|report| report.signal);
        let by_kernel = signal == Some(Signal::SIGXCPU as i32)
            || signal == Some(Signal::SIGKILL as i32)
                && !self.state.killed
                && self.group.counts().cpu_ms().is_none()
                && used_ms >= limit_ms;
        (self.state.over_cpu || by_kernel).then_some(Outcome::CpuLimit { limit_ms, used_ms })
    }

    fn crashed(&self) -> Outcome {
        let report = self.state.report.as_ref();
        let signal = report.and_then(|report| report.signal);
        let exit = report.and_then(|report| report.exit);
        let message = if let Some(fault) = &self.state.fault {
            fault.clone()
        } else if let Some(signal) = signal {
            let name = Signal::try_from(signal).map_or("unknown", |s| s.as_str());
            format!("the program was ended by signal {signal} ({name})")
        } else if let Some(code) = exit {
            format!("the program ended its process by itself, with exit code {code}")
        } else if self.state.killed {
            "the run was killed".to_owned()
        } else {
            format!(
                "the run's process disappeared: {}",
                self.parent.last_words()
            )
        };
        Outcome::Crashed {
            signal,
            exit,
            message,
        }
    }
}
