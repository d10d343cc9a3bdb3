//! The lines of `bench-load`, and the statistics over them.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;

/// What is attached while a workload runs, as `bench-load` says it.
const VARIANTS: [&str; 3] = ["off", "floor", "imdsmon"];

/// Medians of one round, one for each of [`VARIANTS`].
type Round = [Option<f64>; 3];

/// All rounds of all workloads.
#[derive(Debug, Default)]
pub struct Figures {
    /// Name of the workload, and its rounds.
    workloads: Vec<(String, BTreeMap<u32, Round>)>,
    /// Visits that do not count, because others were attached too.
    pub disturbed: u32,
}

/// A workload's summary, over its complete rounds.
#[derive(Debug, PartialEq)]
pub struct Summary {
    /// See `tests/src/bin/bench-load/workload.rs`.
    pub workload: String,
    /// Complete rounds.
    pub rounds: usize,
    /// With nothing attached.
    pub off: Quartiles,
    /// What the floor adds to it in the same round.
    pub floor: Quartiles,
    /// What imdsmon adds to it in the same round.
    pub imdsmon: Quartiles,
}

/// A workload's summary where the clock counts instructions.
#[derive(Debug, PartialEq)]
pub struct Exact {
    /// See [`Summary::workload`].
    pub workload: String,
    /// The least of the rounds, with nothing attached, with the floor, with imdsmon: some rounds
    /// take longer, whatever is attached, and are not to be compared with others.
    pub least: [f64; 3],
    /// How many rounds were within a thousandth of the least, for the variant with the fewest.
    pub agree: usize,
    /// Complete rounds.
    pub rounds: usize,
}

/// A quarter, half and three quarters of the values are not above these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter.
    pub lower: f64,
    /// Half.
    pub median: f64,
    /// Three quarters.
    pub upper: f64,
    /// How far the median may be off by chance (95 %): 1.57 times the distance of the quartiles
    /// over the root of the count (the notch of a box plot).
    pub error: f64,
}

/// One row of calls, by key.
#[derive(Debug)]
pub struct Calls {
    /// What was done.
    pub name: String,
    values: BTreeMap<String, f64>,
}

impl Figures {
    /// Reads the lines of `bench-load packets`; others are passed over.
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
            let number = || format!("a number in {line:?}");
            let variant = VARIANTS.iter().position(|known| *known == variant);
            let variant = variant.with_context(|| format!("a variant in {line:?}"))?;
            let round = figures
                .rounds(workload)
                .entry(round.parse().with_context(number)?)
                .or_default();
            round[variant] = Some(median.parse().with_context(number)?);
        }
        if figures.workloads.is_empty() {
            bail!("nothing was measured without disturbance");
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
    pub fn exact(&self) -> Vec<Exact> {
        let summary = |(workload, rounds): &(String, BTreeMap<u32, Round>)| {
            let rounds = complete(rounds);
            let of = |variant: usize| rounds.iter().map(move |round| round[variant]);
            let least = [0, 1, 2].map(|variant| of(variant).fold(f64::INFINITY, f64::min));
            let agree = [0, 1, 2].map(|variant| {
                of(variant)
                    .filter(|value| *value <= least[variant] * 1.001)
                    .count()
            });
            (!rounds.is_empty()).then(|| Exact {
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
    /// What imdsmon adds for each unit that the floor adds; `None` where the floor's own
    /// addition is not told from noise.
    pub fn ratio(&self) -> Option<f64> {
        let Self { floor, imdsmon, .. } = self;
        // A ratio that may be off by more than a quarter says nothing.
        let resolved = (floor.error + imdsmon.error) * 4.0 <= floor.median;
        (resolved && floor.median > 0.0).then(|| imdsmon.median / floor.median)
    }
}

/// Rounds in which no visit was disturbed.
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

/// Reads the lines of `bench-load calls`: rows, and what failed.
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
                .with_context(|| format!("key=value in {line:?}"))?;
            let value = value
                .parse()
                .with_context(|| format!("a number in {line:?}"))?;
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
    /// The value of a key; NaN shows where there is none.
    pub fn value(&self, key: &str) -> f64 {
        self.values.get(key).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_are_within_a_round() {
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
    fn instructions_are_compared_where_they_are_fewest() {
        let figures = Figures::parse(
            "packet 0 off unix 100 quiet\npacket 0 floor unix 210 quiet\n\
             packet 0 imdsmon unix 111 quiet\npacket 1 off unix 100 quiet\n\
             packet 1 floor unix 110 quiet\npacket 1 imdsmon unix 111 quiet\n",
        )
        .unwrap();
        let expected = Exact {
            workload: "unix".to_owned(),
            least: [100.0, 110.0, 111.0],
            agree: 1,
            rounds: 2,
        };
        assert_eq!(figures.exact(), [expected]);
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        assert!(Figures::parse("").is_err());
        assert!(Figures::parse("packet 0 off unix 9 disturbed").is_err());
    }

    #[test]
    fn calls_are_read_by_key() {
        let (rows, failures) =
            calls("calls burst count=5 cores=0.25\nfailed paced: lost=1\n").unwrap();
        assert_eq!(failures, ["paced: lost=1"]);
        assert_eq!(rows[0].name, "burst");
        assert!((rows[0].value("cores") - 0.25).abs() < 1e-9);
        assert!(rows[0].value("none").is_nan());
    }
}
