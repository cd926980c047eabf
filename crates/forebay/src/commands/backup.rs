//! `forebay backup` and `forebay restore`: files to a file and back.

use forebay::backup::{self, Report};
use forebay_cli::{BackupArgs, CopyProgress, Exit, Outcome, RestoreArgs};
use forebay_runtime::Clock;

use super::failure;

pub(crate) fn make(args: &BackupArgs) -> Outcome {
    let progress = CopyProgress::new(args.out());
    let show = |files, bytes| progress.show(files, bytes);
    let report = backup::backup(&args.data, &args.file, &Clock::system(), show);
    told(&progress, "Backed up", &report.map_err(|e| failure(&e))?)
}

pub(crate) fn restore(args: &RestoreArgs) -> Outcome {
    let progress = CopyProgress::new(args.out());
    let show = |files, bytes| progress.show(files, bytes);
    let report = backup::restore(&args.file, &args.data, show);
    told(&progress, "Restored", &report.map_err(|e| failure(&e))?)
}

fn told(progress: &CopyProgress, verb: &str, report: &Report) -> Outcome {
    let about = &report.about;
    let names: Vec<_> = about.workspaces.iter().map(|w| w.name.clone()).collect();
    let size = (names.as_slice(), report.files, report.bytes);
    progress.report(report, (verb, about.made_at), size, &report.notes)?;
    Ok(Exit::Ok)
}
