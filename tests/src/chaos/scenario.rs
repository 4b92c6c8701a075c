//! Which faults there are, and how long each part of a run takes.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// A way in which Redis fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// The server gets a SIGKILL and starts again with all its data
    KillRestart,
    /// The server stops (SIGSTOP), for 10 s at most, and goes on
    Sigstop,
    /// No byte gets through, and none is lost
    Blackhole,
    /// What is sent arrives 30 ms later: within the deadline
    #[value(name = "delay-30ms")]
    Delay30ms,
    /// What is sent arrives 500 ms later: far beyond the deadline
    #[value(name = "delay-500ms")]
    Delay500ms,
    /// Connections are closed five times a second, and every tenth new one is reset at once
    ResetEveryTenth,
    /// `maxmemory` is reached under noeviction: reads and removals work, writes fail
    Oom,
    /// The server becomes a replica of another, as after a failover: writes fail with READONLY
    Readonly,
    /// The user's password is changed and its connections are closed
    AuthChanged,
    /// The server is killed, starts again with its data and takes a while to load it
    Loading,
    /// The server is killed and starts again empty
    RestartEmpty,
    /// The server is killed and starts again with its data, as of when it died; meanwhile values are invalidated
    RestartOldDump,
    /// The server is killed and starts again with its data; meanwhile the journal's file cannot grow, as on a full disk
    JournalDiskFull,
    /// The server starts again with older data: values were invalidated, and that confirmed, between dump and crash
    CrashOldDump,
    /// Now and then one UNLINK arrives half a second late, and nothing else does
    DelTimesOut,
    /// The server stops for 1.2 s again and again, too short for the bus to notice; another process hardly asks Redis
    SigstopBusIntact,
    /// SETs lie in the socket buffer of a stopped server, or on their way to it, while their keys are invalidated
    SetInSocketBuffer,
    /// The server is killed and restarted with its data: up 1 s, down 1 s, for 20 s at most
    Flapping,
    /// Two processes, one of which no byte reaches
    TwoProcessesOneCutOff,
}

impl Scenario {
    /// All of them, in the order in which they are shown.
    #[must_use]
    pub fn all() -> &'static [Self] {
        clap::ValueEnum::value_variants()
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What happens in it, in a sentence.
    #[must_use]
    pub fn what(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// How many processes there are.
    pub(super) fn processes(self) -> usize {
        if matches!(self, Self::SigstopBusIntact | Self::TwoProcessesOneCutOff) { 2 } else { 1 }
    }

    /// The process whose detection and recovery are looked at.
    pub(super) fn victim(self) -> usize {
        usize::from(self == Self::TwoProcessesOneCutOff)
    }

    /// Whether a process does nothing that could tell it that Redis stands still: it reads through its near tier only,
    /// invalidates nothing, and is asked for its health only while Redis answers.
    pub(super) fn is_bystander(self, process: usize) -> bool {
        self == Self::SigstopBusIntact && process == 1
    }

    /// Whether the server is gone for a client at one stroke: then the breaker has 200 ms, and 1 s after the return.
    #[must_use]
    pub fn has_budgets(self) -> bool {
        matches!(
            self,
            Self::KillRestart
                | Self::RestartEmpty
                | Self::RestartOldDump
                | Self::JournalDiskFull
                | Self::CrashOldDump
                | Self::TwoProcessesOneCutOff
        )
    }

    fn longest_fault(self) -> Duration {
        Duration::from_secs(match self {
            Self::Loading => 7,
            Self::Sigstop => 10,
            Self::Flapping => 20,
            _ => return Duration::MAX,
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How long each part of a run takes. The last part takes longer where recovery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Before the fault.
    pub before: Duration,
    /// The fault.
    pub fault: Duration,
    /// After it.
    pub after: Duration,
}

impl Plan {
    /// Shares out the length of a run.
    #[must_use]
    pub fn new(scenario: Scenario, length: Duration) -> Self {
        let fault = length.mul_f64(0.65).min(scenario.longest_fault());
        let before = (length - fault).mul_f64(0.4);
        Self { before, fault, after: length - fault - before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line_and_every_scenario_is_described() {
        let names: Vec<String> = Scenario::all().iter().map(|scenario| scenario.name()).collect();
        assert!(names.contains(&"delay-30ms".to_owned()) && names.contains(&"two-processes-one-cut-off".to_owned()));
        assert!(Scenario::all().iter().all(|scenario| scenario.what().len() > 20));
    }

    #[test]
    fn ten_minutes_for_all_give_flapping_its_twenty_seconds_and_a_stop_its_ten() {
        let each = Duration::from_secs(600) / u32::try_from(Scenario::all().len()).unwrap();
        let of = |scenario| Plan::new(scenario, each);
        assert_eq!(of(Scenario::Flapping).fault, Duration::from_secs(20));
        assert_eq!(of(Scenario::Sigstop).fault, Duration::from_secs(10));
        for scenario in Scenario::all() {
            let plan = of(*scenario);
            assert_eq!(plan.before + plan.fault + plan.after, each, "{scenario}");
        }
    }
}
