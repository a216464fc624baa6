//! Processor time of this process and of others, from `getrusage` and `/proc/<pid>/stat`.

use rustix::param::clock_ticks_per_second;

/// Processor time, user and system, in µs, a process has used since it started; 0 if it is gone.
pub fn of_process(pid: u32) -> u64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    // The command, in parentheses, may hold spaces: count the fields after it.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * 1_000_000 / clock_ticks_per_second()
}

/// Processor time of this process, in µs.
pub fn of_this_process() -> u64 {
    of_process(std::process::id())
}
