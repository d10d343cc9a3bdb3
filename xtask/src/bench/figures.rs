//! The output of `bench-load`, and statistics over it.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;

/// The program attached while a workload runs: none, an empty one ("floor"), imdsmon.
const VARIANTS: [&str; 3] = ["off", "floor", "imdsmon"];

/// The medians of one round, in the order of [`VARIANTS`].
type Round = [Option<f64>; 3];

/// All rounds of all workloads.
#[derive(Debug, Default)]
pub struct Figures {
    /// Each workload's name and rounds.
    workloads: Vec<(String, BTreeMap<u32, Round>)>,
    /// Measurements discarded because other programs were attached.
    pub disturbed: u32,
}

/// The times of a workload over its complete rounds.
#[derive(Debug, PartialEq)]
pub struct Summary {
    /// See `tests/src/bin/bench-load/workload.rs`.
    pub workload: String,
    pub rounds: usize,
    /// Without a program attached.
    pub off: Quartiles,
    /// Difference of floor and off within a round.
    pub floor: Quartiles,
    /// Difference of imdsmon and off within a round.
    pub imdsmon: Quartiles,
}

/// The instruction counts of a workload over its complete rounds.
#[derive(Debug, PartialEq)]
pub struct InstructionCounts {
    /// See [`Summary::workload`].
    pub workload: String,
    /// The minimum of the rounds, in the order of [`VARIANTS`]. Some rounds take longer with any
    /// variant and cannot be compared.
    pub least: [f64; 3],
    /// Rounds within 0.1 % of the minimum, for the variant with the fewest.
    pub agree: usize,
    pub rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// 25 %.
    pub lower: f64,
    /// 50 %.
    pub median: f64,
    /// 75 %.
    pub upper: f64,
    /// Uncertainty of the median (95 %): 1.57 times the interquartile range over the square root
    /// of the count (the notch of a box plot).
    pub error: f64,
}

/// The values of one `calls` line, by key.
#[derive(Debug)]
pub struct Calls {
    pub name: String,
    values: BTreeMap<String, f64>,
}

impl Figures {
    /// Parses the `packet` lines of `bench-load packets`.
    pub fn parse(output: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["packet", round, variant, workload, median, state] = words[..] else {
                continue;
            };
            if state != "quiet" {
                figures.disturbed += 1;
                continue;
            }
            let number = || format!("no number in {line:?}");
            let variant = VARIANTS.iter().position(|known| *known == variant);
            let variant = variant.with_context(|| format!("no variant in {line:?}"))?;
            let round = figures
                .rounds(workload)
                .entry(round.parse().with_context(number)?)
                .or_default();
            round[variant] = Some(median.parse().with_context(number)?);
        }
        if figures.workloads.is_empty() {
            bail!("all measurements were disturbed; stop other eBPF programs");
        }
        Ok(figures)
    }

    fn rounds(&mut self, workload: &str) -> &mut BTreeMap<u32, Round> {
        let known = self.workloads.iter().position(|(name, _)| name == workload);
        let at = known.unwrap_or_else(|| {
            self.workloads.push((workload.to_owned(), BTreeMap::new()));
            self.workloads.len() - 1
        });
        &mut self.workloads[at].1
    }

    /// One row for each workload that has a complete round.
    pub fn instruction_counts(&self) -> Vec<InstructionCounts> {
        let summary = |(workload, rounds): &(String, BTreeMap<u32, Round>)| {
            let rounds = complete(rounds);
            let of = |variant: usize| rounds.iter().map(move |round| round[variant]);
            let least = [0, 1, 2].map(|variant| of(variant).fold(f64::INFINITY, f64::min));
            let agree = [0, 1, 2].map(|variant| {
                of(variant)
                    .filter(|value| *value <= least[variant] * 1.001)
                    .count()
            });
            (!rounds.is_empty()).then(|| InstructionCounts {
                workload: workload.clone(),
                least,
                agree: agree.into_iter().min().unwrap_or_default(),
                rounds: rounds.len(),
            })
        };
        self.workloads.iter().filter_map(summary).collect()
    }

    /// One row for each workload that has a complete round.
    pub fn summaries(&self) -> Vec<Summary> {
        let summary = |(workload, rounds): &(String, BTreeMap<u32, Round>)| {
            let rounds = complete(rounds);
            let over = |value: fn(&[f64; 3]) -> f64| quartiles(rounds.iter().map(value).collect());
            Some(Summary {
                workload: workload.clone(),
                rounds: rounds.len(),
                off: over(|[off, _, _]| *off)?,
                floor: over(|[off, floor, _]| floor - off)?,
                imdsmon: over(|[off, _, imdsmon]| imdsmon - off)?,
            })
        };
        self.workloads.iter().filter_map(summary).collect()
    }
}

impl Summary {
    /// The cost of imdsmon relative to that of the floor; `None` if the latter is below the noise.
    pub fn ratio(&self) -> Option<f64> {
        let Self { floor, imdsmon, .. } = self;
        // Uncertainty above a quarter makes the ratio meaningless.
        let resolved = (floor.error + imdsmon.error) * 4.0 <= floor.median;
        (resolved && floor.median > 0.0).then(|| imdsmon.median / floor.median)
    }
}

/// Rounds without a discarded measurement.
fn complete(rounds: &BTreeMap<u32, Round>) -> Vec<[f64; 3]> {
    let whole = |round: &Round| Some([round[0]?, round[1]?, round[2]?]);
    rounds.values().filter_map(whole).collect()
}

fn quartiles(mut values: Vec<f64>) -> Option<Quartiles> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let (lower, upper) = (values[last / 4], values[last * 3 / 4]);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred values")]
    let count = values.len() as f64;
    Some(Quartiles {
        lower,
        median: values[last / 2],
        upper,
        error: 1.57 * (upper - lower) / count.sqrt(),
    })
}

/// Parses the output of `bench-load calls` into rows and failures.
pub fn calls(output: &str) -> Result<(Vec<Calls>, Vec<String>)> {
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for line in output.lines() {
        if let Some(failure) = line.strip_prefix("failed ") {
            failures.push(failure.to_owned());
        }
        let mut words = line.split_whitespace();
        let (Some("calls"), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let mut values = BTreeMap::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .with_context(|| format!("no key=value in {line:?}"))?;
            let value = value
                .parse()
                .with_context(|| format!("no number in {line:?}"))?;
            values.insert(key.to_owned(), value);
        }
        rows.push(Calls {
            name: name.to_owned(),
            values,
        });
    }
    Ok((rows, failures))
}

impl Calls {
    /// The value of `key`; NaN if there is none.
    pub fn value(&self, key: &str) -> f64 {
        self.values.get(key).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_the_difference_within_a_round() {
        let figures = Figures::parse(
            "packet 0 off unix 100 quiet\npacket 0 floor unix 110 quiet\n\
             packet 0 imdsmon unix 111 quiet\npacket 1 imdsmon unix 211 quiet\n\
             packet 1 floor unix 210 quiet\npacket 1 off unix 200 quiet\n\
             packet 2 off unix 9 disturbed\npacket 2 floor unix 9 quiet\n",
        )
        .unwrap();
        let [summary] = &figures.summaries()[..] else {
            panic!("one workload")
        };
        assert_eq!((figures.disturbed, summary.rounds), (1, 2));
        assert!((summary.floor.median - 10.0).abs() < 1e-9);
        assert!((summary.ratio().unwrap() - 1.1).abs() < 1e-9);
    }

    #[test]
    fn instruction_count_is_the_minimum_of_rounds() {
        let figures = Figures::parse(
            "packet 0 off unix 100 quiet\npacket 0 floor unix 210 quiet\n\
             packet 0 imdsmon unix 111 quiet\npacket 1 off unix 100 quiet\n\
             packet 1 floor unix 110 quiet\npacket 1 imdsmon unix 111 quiet\n",
        )
        .unwrap();
        let expected = InstructionCounts {
            workload: "unix".to_owned(),
            least: [100.0, 110.0, 111.0],
            agree: 1,
            rounds: 2,
        };
        assert_eq!(figures.instruction_counts(), [expected]);
    }

    #[test]
    fn output_without_measurements_is_an_error() {
        assert!(Figures::parse("").is_err());
        assert!(Figures::parse("packet 0 off unix 9 disturbed").is_err());
    }

    #[test]
    fn calls_are_parsed_by_key() {
        let (rows, failures) =
            calls("calls burst count=5 cores=0.25\nfailed paced: lost=1\n").unwrap();
        assert_eq!(failures, ["paced: lost=1"]);
        assert_eq!(rows[0].name, "burst");
        assert!((rows[0].value("cores") - 0.25).abs() < 1e-9);
        assert!(rows[0].value("none").is_nan());
    }
}
