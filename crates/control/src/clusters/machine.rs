use std::path::Path;

/// The machine this server runs on, as the one node type there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub cores: u32,
    pub memory_mb: u64,
    /// Of the file system that holds the data folder.
    pub disk_gb: u64,
}

impl Machine {
    pub(super) fn probe(data: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let disk = nix::sys::statvfs::statvfs(data)
            .map_or(0, |fs| fs.blocks().saturating_mul(fs.fragment_size()));
        Self {
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_mb: memory_total_kb(&memory).unwrap_or(0) / 1024,
            disk_gb: disk >> 30,
        }
    }
}

fn memory_total_kb(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn total_memory_is_read_in_kilobytes() {
        let text = "MemTotal:        8039440 kB\nMemFree:   1 kB\n";
        assert_eq!(super::memory_total_kb(text), Some(8_039_440));
    }
}
