//! What was measured, as a table of medians.

use std::fmt::Write;
use std::time::Duration;

/// One thing to do to a server.
pub enum Scenario {
    /// One body on each connection.
    Upload { name: &'static str, connections: usize, bytes: u64 },
    /// The same file on each connection.
    Download { name: &'static str, connections: usize, bytes: u64 },
    /// Small bodies, one after the other on each connection; `churned` where as many were deleted
    /// just before.
    Small { name: &'static str, connections: usize, each: usize, bytes: u64, churned: bool },
    /// As [`Scenario::Small`], each deleted before the next.
    Churn { name: &'static str, connections: usize, each: usize, bytes: u64 },
}

impl Scenario {
    pub fn upload(name: &'static str, connections: usize, bytes: u64) -> Self {
        Self::Upload { name, connections, bytes }
    }

    pub fn download(name: &'static str, connections: usize, bytes: u64) -> Self {
        Self::Download { name, connections, bytes }
    }

    pub fn small(name: &'static str, connections: usize, each: usize, bytes: u64) -> Self {
        Self::Small { name, connections, each, bytes, churned: false }
    }

    pub fn churned(name: &'static str, connections: usize, each: usize, bytes: u64) -> Self {
        Self::Small { name, connections, each, bytes, churned: true }
    }

    pub fn churn(name: &'static str, connections: usize, each: usize, bytes: u64) -> Self {
        Self::Churn { name, connections, each, bytes }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Upload { name, .. }
            | Self::Download { name, .. }
            | Self::Small { name, .. }
            | Self::Churn { name, .. } => name,
        }
    }

    /// How much was moved, and what it is counted in.
    fn amount(&self) -> (f64, &'static str) {
        match self {
            Self::Upload { connections, bytes, .. } | Self::Download { connections, bytes, .. } => {
                ((*connections as u64 * bytes) as f64 / f64::from(1 << 20), "MiB")
            }
            Self::Small { connections, each, .. } => ((connections * each) as f64, "requests"),
            Self::Churn { connections, each, .. } => ((connections * each) as f64, "files"),
        }
    }
}

/// One measured run.
#[derive(Clone)]
pub struct Run {
    pub wall: Duration,
    pub cpu: Duration,
    pub rss: u64,
    /// Of that, what the server did not have before its first request.
    pub over_idle: u64,
}

/// Medians for each server, and the second over the first where there are two.
pub fn table(names: &[&str], results: &[(Scenario, Vec<Vec<Run>>)]) -> String {
    let mut text = String::new();
    for (scenario, runs) in results {
        let (amount, unit) = scenario.amount();
        let count = runs.first().map_or(0, Vec::len);
        let _ = writeln!(text, "{} ({amount:.0} {unit}, median of {count})", scenario.name());
        let _ = writeln!(text, "{}", line("", names.iter().map(|name| (*name).to_owned())));
        let wall = |run: &Run| run.wall.as_secs_f64();
        row(&mut text, "wall, s", runs, wall);
        row(&mut text, &format!("{unit}/s"), runs, |run| amount / wall(run));
        row(&mut text, "server CPU, s", runs, |run| run.cpu.as_secs_f64());
        if unit == "MiB" {
            row(&mut text, "CPU, s/GiB", runs, |run| run.cpu.as_secs_f64() / amount * 1024.0);
        }
        row(&mut text, "peak RSS, MiB", runs, |run| run.rss as f64 / f64::from(1 << 20));
        row(&mut text, "over idle, MiB", runs, |run| run.over_idle as f64 / f64::from(1 << 20));
        text.push('\n');
    }
    text
}

fn row(text: &mut String, label: &str, runs: &[Vec<Run>], value: impl Fn(&Run) -> f64) {
    let medians: Vec<Option<f64>> =
        runs.iter().map(|runs| median(runs.iter().map(&value).collect())).collect();
    let mut cells: Vec<String> = medians
        .iter()
        .map(|median| median.map_or("-".to_owned(), |it| format!("{it:.2}")))
        .collect();
    if let [Some(first), Some(second)] = medians[..]
        && first > 0.0
    {
        cells.push(format!("x {:.2}", second / first));
    }
    let _ = writeln!(text, "{}", line(label, cells.into_iter()));
}

fn line(label: &str, cells: impl Iterator<Item = String>) -> String {
    let mut line = format!("  {label:<16}");
    for cell in cells {
        let _ = write!(line, "{cell:>12}");
    }
    line.trim_end().to_owned()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { values[middle - 1] } else { upper };
    Some(f64::midpoint(lower, upper))
}
