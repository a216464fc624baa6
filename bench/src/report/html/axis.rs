//! Scales and ticks of plots: which numbers stand at an axis, and where a value is drawn.

/// An axis from `low` to `high`, drawn from one place to another.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    /// Where they are drawn.
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// A linear axis; one of no length is made one.
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Axis {
        let high = if high > low { high } else { low + 1.0 };
        Axis { low, high, from, to, logarithmic: false }
    }

    /// A logarithmic axis, for ratios; both ends are above 0.
    pub fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Axis {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 2.0 };
        Axis { low, high, from, to, logarithmic: true }
    }

    /// Where a value is drawn; what is beyond an end is drawn there.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// The numbers at the axis, at most about so many, with their texts.
    pub fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        if self.logarithmic {
            let inside = |values: Vec<f64>| -> Vec<f64> {
                values.into_iter().filter(|value| (self.low..=self.high).contains(value)).collect()
            };
            let decades = (self.low.log10().floor() as i32..=self.high.log10().ceil() as i32).take(700);
            let tens: Vec<f64> = decades.map(|exponent| 10f64.powi(exponent)).collect();
            let fine = inside(tens.iter().flat_map(|ten| [*ten, 2.0 * ten, 5.0 * ten]).collect());
            let tens = inside(tens);
            let every = tens.len().div_ceil(most.max(1)).max(1);
            let found = if fine.len() <= most { fine } else { tens.into_iter().step_by(every).collect() };
            if found.len() >= 3 {
                return found.into_iter().map(|value| (value, plain(value))).collect();
            }
        }
        let step = step((self.high - self.low) / most.max(1) as f64);
        let first = (self.low / step).ceil();
        let largest = self.low.abs().max(self.high.abs());
        let values = (0..50)
            .map(|n| (first + f64::from(n)) * step)
            .take_while(|value| *value <= self.high * (1.0 + 1e-9));
        values.map(|value| (value, label(value, step, largest))).collect()
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below.
fn step(least: f64) -> f64 {
    let ten = 10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * ten)
        .find(|step| *step >= least * 0.999_999)
        .unwrap_or(ten * 10.0)
}

/// A number of an axis whose steps are that large.
fn label(value: f64, step: f64, largest: f64) -> String {
    let (scale, sign) = match largest {
        _ if largest >= 1e10 => (1e9, " G"),
        _ if largest >= 1e7 => (1e6, " M"),
        _ if largest >= 1e4 => (1e3, " k"),
        _ => (1.0, ""),
    };
    if value == 0.0 {
        return "0".into();
    }
    let decimals = (-(step / scale).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{:.decimals$}{sign}", value / scale)
}

/// A round number without needless digits.
fn plain(value: f64) -> String {
    match value {
        _ if !(1e-4..1e6).contains(&value) => format!("{value:e}"),
        _ => format!("{value}").chars().take(7).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis, most: usize) -> Vec<String> {
        axis.ticks(most).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(texts(Axis::linear(0.0, 60.0, 0.0, 1.0), 6), ["0", "10", "20", "30", "40", "50", "60"]);
        assert_eq!(texts(Axis::linear(0.0, 0.9, 0.0, 1.0), 5), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(
            texts(Axis::linear(0.0, 243_000.0, 0.0, 1.0), 5),
            ["0", "50 k", "100 k", "150 k", "200 k"]
        );
        assert_eq!(texts(Axis::logarithmic(0.2, 6.0, 0.0, 1.0), 10), ["0.2", "0.5", "1", "2", "5"]);
        assert_eq!(texts(Axis::logarithmic(0.85, 1.15, 0.0, 1.0), 4), ["0.9", "1.0", "1.1"]);
        assert!(texts(Axis::logarithmic(1e-6, 1e9, 0.0, 1.0), 8).len() <= 9);
    }

    #[test]
    fn values_are_drawn_in_proportion() {
        let axis = Axis::linear(0.0, 10.0, 100.0, 200.0);
        assert_eq!([0.0, 5.0, 10.0, 20.0].map(|value| axis.at(value)), [100.0, 150.0, 200.0, 200.0]);
        let axis = Axis::logarithmic(0.1, 10.0, 0.0, 100.0);
        assert!((axis.at(1.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn axes_without_length_have_ticks() {
        assert!(!texts(Axis::linear(3.0, 3.0, 0.0, 1.0), 5).is_empty());
        assert!(!texts(Axis::logarithmic(1.0, 1.0, 0.0, 1.0), 5).is_empty());
    }
}
