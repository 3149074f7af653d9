//! The process, as Prometheus clients tell of theirs. The crate counts seconds of the processor whole, which over a minute is
//! off by a tenth where little is done: here they have the fractions that the system knows.

use prometheus::{
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::{Counter, MetricFamily},
};

/// What the registry holds.
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn own() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let cpu = families.iter_mut().find(|family| family.name() == CPU);
        if let (Some(cpu), Some(seconds)) = (cpu, seconds()) {
            for metric in cpu.mut_metric() {
                let mut counter = Counter::default();
                counter.set_value(seconds);
                metric.set_counter(counter);
            }
        }
        families
    }
}

const CPU: &str = "process_cpu_seconds_total";

/// Seconds of the processor, in the kernel and out of it, to the hundredth on most systems.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn seconds() -> Option<f64> {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat()).ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_the_processor_have_fractions() {
        let process = Process::own();
        let read = || {
            let families = process.collect();
            let cpu = families.iter().find(|family| family.name() == CPU).unwrap();
            cpu.get_metric()[0].get_counter().get_value()
        };
        let end = read() + 3.0;
        // To look costs a hundredth before long.
        assert!(std::iter::repeat_with(read).take_while(|now| *now < end).any(|now| now.fract() > 0.0));
    }
}
