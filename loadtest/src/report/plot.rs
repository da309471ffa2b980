//! Line plots as SVG, without a script: colours come from the page's style, values of a second
//! from the title that appears over it.
//!
//! Used by `html`. It knows points and labels, nothing of runs.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 26.0;
/// Grid lines of an axis, about.
const TICKS: f64 = 5.0;
/// Rows for the words of marks; where no row has room a mark has only its line and its title.
const ROWS: [f64; 2] = [16.0, 34.0];
/// A letter's width where the page is narrow and the writing large.
const LETTER: f64 = 11.0;

/// A line of a plot.
#[derive(Debug)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Where it is drawn; none interrupts it.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A plot.
#[derive(Debug)]
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// Of the vertical axis.
    pub unit: &'a str,
    /// Its lines; the first three colours are told apart by everybody.
    pub series: Vec<Series>,
    /// Vertical lines with a word.
    pub marks: Vec<(f64, &'a str)>,
    /// Labels of the horizontal axis; none: seconds.
    pub labels: Option<Vec<(f64, String)>>,
    /// The vertical axis is logarithmic.
    pub logarithmic: bool,
}

#[derive(Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    fn share(self, value: f64) -> f64 {
        let at = |value: f64| {
            if self.logarithmic {
                value.max(self.from).log10()
            } else {
                value
            }
        };
        let (from, to) = (at(self.from), at(self.to));
        (at(value) - from) / (to - from).max(f64::EPSILON)
    }

    fn ticks(self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.from.log10().round()..=self.to.log10().round()).by_one();
            return decades.map(|decade| 10_f64.powf(decade)).collect();
        }
        let step = nice((self.to - self.from) / TICKS);
        let first = (self.from / step).ceil();
        let last = (self.to / step).floor();
        (first..=last).by_one().map(|tick| tick * step).collect()
    }
}

trait ByOne {
    fn by_one(self) -> impl Iterator<Item = f64>;
}

impl ByOne for std::ops::RangeInclusive<f64> {
    /// Bounded, so that no odd value can draw for ever.
    fn by_one(self) -> impl Iterator<Item = f64> {
        let (from, to) = self.into_inner();
        (0..100)
            .map(move |step| from + f64::from(step))
            .take_while(move |value| *value <= to)
    }
}

/// 1, 2 or 5 times a power of ten, at least this.
fn nice(least: f64) -> f64 {
    if !least.is_finite() || least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(least)
}

/// A number short enough for an axis.
pub fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        large if large >= 100.0 || value.fract().abs() < 1e-9 => 0,
        large if large >= 1.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{suffix}")
}

/// Text that may stand in HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

impl Plot<'_> {
    /// The plot with its title and legend; nothing where there is nothing to show.
    pub fn draw(&self) -> String {
        let values = self.series.iter().flat_map(|series| &series.points);
        let values: Vec<f64> = values.filter_map(|(_, value)| *value).collect();
        if values.is_empty() {
            return String::new();
        }
        let (x, y) = self.axes(&values);
        let mut svg = String::new();
        self.grid(&mut svg, x, y);
        self.lines(&mut svg, x, y);
        self.titles(&mut svg, x);
        let names = self.series.iter().enumerate().map(|(number, series)| {
            format!(
                "<span><i class=\"s{number}\"></i>{}</span>",
                escape(&series.name)
            )
        });
        let legend = if self.series.len() > 1 {
            names.collect()
        } else {
            String::new()
        };
        format!(
            "<figure><figcaption><b>{}</b> <small>{}</small>{legend}</figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">{svg}</svg></figure>\n",
            escape(self.title),
            escape(self.unit),
            escape(self.title)
        )
    }

    fn axes(&self, values: &[f64]) -> (Axis, Axis) {
        let places = self
            .series
            .iter()
            .flat_map(|series| &series.points)
            .map(|(at, _)| *at);
        let (from, to) = places.fold((f64::MAX, f64::MIN), |(low, high), at| {
            (low.min(at), high.max(at))
        });
        let from = if self.labels.is_some() { from } else { 0.0 };
        let x = Axis {
            from,
            to: to.max(from + 1e-9),
            logarithmic: false,
        };
        let top = values.iter().copied().fold(0.0, f64::max);
        let y = if self.logarithmic {
            let lowest = values
                .iter()
                .copied()
                .filter(|value| *value > 0.0)
                .fold(top.max(0.01), f64::min);
            let decade =
                |value: f64, round: fn(f64) -> f64| 10_f64.powf(round(value.max(1e-3).log10()));
            let from = decade(lowest, f64::floor);
            Axis {
                from,
                to: decade(top, f64::ceil).max(from * 10.0),
                logarithmic: true,
            }
        } else {
            let step = nice(top / TICKS);
            Axis {
                from: 0.0,
                to: ((top / step).ceil() * step).max(step),
                logarithmic: false,
            }
        };
        (x, y)
    }

    fn grid(&self, svg: &mut String, x: Axis, y: Axis) {
        for tick in y.ticks() {
            let at = down(y.share(tick));
            push(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    WIDTH - RIGHT,
                    LEFT - 6.0,
                    at + 4.0,
                    short(tick)
                ),
            );
        }
        let seconds = || {
            x.ticks()
                .into_iter()
                .map(|tick| (tick, format!("{}s", short(tick))))
        };
        let labels = self.labels.clone().unwrap_or_else(|| seconds().collect());
        for (tick, label) in labels {
            push(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    right(x.share(tick)),
                    HEIGHT - 8.0,
                    escape(&label)
                ),
            );
        }
        let mut taken = ROWS.map(|_| 0.0);
        for (at, what) in &self.marks {
            let at = right(x.share(*at));
            let wide = LETTER * f64::from(u32::try_from(what.len()).unwrap_or(u32::MAX));
            let begins = at.min(WIDTH - wide);
            let what = escape(what);
            push(
                svg,
                format_args!(
                    "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"><title>{what}</title></line>",
                    HEIGHT - BOTTOM
                ),
            );
            let room = ROWS
                .iter()
                .zip(&mut taken)
                .find(|(_, taken)| **taken <= begins);
            if let Some((row, taken)) = room {
                *taken = begins + wide;
                push(
                    svg,
                    format_args!(
                        "<text class=\"said\" x=\"{begins:.1}\" y=\"{row}\">{what}</text>"
                    ),
                );
            }
        }
    }

    fn lines(&self, svg: &mut String, x: Axis, y: Axis) {
        for (number, series) in self.series.iter().enumerate() {
            let mut path = String::new();
            let mut drawing = false;
            let alone = series.points.len() == 1;
            for (at, value) in &series.points {
                let Some(value) = value else {
                    drawing = false;
                    continue;
                };
                let (across, height) = (right(x.share(*at)), down(y.share(*value)));
                push(
                    &mut path,
                    format_args!("{}{across:.1} {height:.1}", if drawing { 'L' } else { 'M' }),
                );
                if alone {
                    push(
                        svg,
                        format_args!(
                            "<circle class=\"s{number}\" cx=\"{across:.1}\" cy=\"{height:.1}\" r=\"3\"/>"
                        ),
                    );
                }
                drawing = true;
            }
            push(
                svg,
                format_args!("<path class=\"s{number}\" d=\"{path}\"/>"),
            );
        }
    }

    /// An invisible column over each point, which says its values.
    fn titles(&self, svg: &mut String, x: Axis) {
        let Some(first) = self.series.first() else {
            return;
        };
        let count = u32::try_from(first.points.len()).unwrap_or(1).max(1);
        let wide = (WIDTH - LEFT - RIGHT) / f64::from(count);
        for (number, (at, _)) in first.points.iter().enumerate() {
            let values = self.series.iter().filter_map(|series| {
                let value = series.points.get(number)?.1?;
                Some(format!("{} {}", series.name, short(value)))
            });
            let values: Vec<String> = values.collect();
            let label = match &self.labels {
                Some(labels) => labels
                    .get(number)
                    .map_or_else(String::new, |(_, label)| label.clone()),
                None => format!("{at:.0} s"),
            };
            push(
                svg,
                format_args!(
                    "<rect class=\"over\" x=\"{:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{:.1}\"><title>{}: {} {}</title></rect>",
                    right(x.share(*at)) - wide / 2.0,
                    HEIGHT - TOP - BOTTOM,
                    escape(&label),
                    escape(&values.join(", ")),
                    escape(self.unit)
                ),
            );
        }
    }
}

fn right(share: f64) -> f64 {
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn down(share: f64) -> f64 {
    HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _never = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(
            [0.3, 1.0, 1.1, 26.0, 0.0].map(nice),
            [0.5, 1.0, 2.0, 50.0, 1.0]
        );
        assert_eq!(
            [0.25, 3.0, 1234.0, 23_456.0, 2e6].map(short),
            ["0.25", "3", "1234", "23.5k", "2M"]
        );
    }

    #[test]
    fn a_plot_of_nothing_is_nothing_and_one_of_odd_values_ends() {
        let plot = |points| Plot {
            title: "<t>",
            unit: "ms",
            series: vec![Series {
                name: "a".to_owned(),
                points,
            }],
            marks: vec![(0.5, "a & b")],
            labels: None,
            logarithmic: true,
        };
        assert_eq!(plot(vec![(0.0, None)]).draw(), "");
        let drawn = plot(vec![(0.0, Some(0.0)), (1.0, Some(1e12)), (2.0, None)]).draw();
        assert!(
            drawn.contains("&lt;t&gt;") && drawn.contains("a &amp; b"),
            "{drawn}"
        );
    }
}
