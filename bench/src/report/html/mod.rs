//! `forebay-bench report`: reports as one page that needs nothing else, for people. Well-formed as XML too, so that
//! anything can read it. Knows how reports look, not what they mean.

mod axis;
mod curves;
mod ratios;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::table::{COLUMNS, number, times};
use super::{Report, Row};

const EXAMPLES: &str = "\
The page holds its styles and plots: no script, no font, nothing that is fetched. It follows the reader's light or dark
setting.

Example: forebay-bench report engine.json ingest.json read.json --out report.html";

/// What `forebay-bench report` can be told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Reports as --json wrote them, in the order they are to have on the page
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// The page; replaced if it is there
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the page; says what is on it.
pub fn run(options: &Options) -> anyhow::Result<String> {
    let reports: Vec<Report> =
        options.reports.iter().map(|path| Report::read(path)).collect::<anyhow::Result<_>>()?;
    let out = options.out.display();
    std::fs::write(&options.out, page(&reports)).with_context(|| format!("{out} cannot be written"))?;
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let (rows, series) = (sum(|report| report.rows.len()), sum(|report| report.series.len()));
    Ok(format!("{out}: {} scenarios, {rows} figures, {series} curves", reports.len()))
}

/// The whole page.
fn page(reports: &[Report]) -> String {
    let names: Vec<&str> = reports.iter().map(|report| report.scenario.as_str()).collect();
    let title = escape(&format!("forebay-bench: {}", names.join(", ")));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n\
         <style>{}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p class=\"note\">Every figure is the median of alternating \
         pairs, ours and a peer's, on the same data in the same run; a ratio is ours over the peer's, with the lowest \
         and the highest pair.</p>\n",
        include_str!("page.css")
    );
    if reports.len() > 1 {
        let link = |(n, report): (usize, &Report)| {
            format!("<li><a href=\"#s{n}\">{}</a> {}</li>", escape(&report.scenario), escape(&report.date))
        };
        let links: String = reports.iter().enumerate().map(link).collect();
        page += &format!("<nav><ul>{links}</ul></nav>\n");
    }
    reports.iter().enumerate().for_each(|(n, report)| page += &section(n, report));
    page + "</body>\n</html>\n"
}

fn section(number: usize, report: &Report) -> String {
    let mut html = format!("<section id=\"s{number}\">\n<h2>{}</h2>\n<dl>", escape(&report.scenario));
    let facts = report.data.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.replace('_', " "), value)
    });
    let of_run = [("machine", &report.machine), ("date", &report.date), ("command", &report.command)];
    let of_run = of_run.into_iter().filter(|(_, text)| !text.is_empty());
    for (name, text) in of_run.map(|(name, text)| (name.to_owned(), text.clone())).chain(facts) {
        html += &format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(&name), escape(&text));
    }
    html += "</dl>\n";
    html += &ratios::plot(&report.rows);
    html += &table(&report.rows);
    html += &curves::plots(&report.series);
    html + "</section>\n"
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut html = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    COLUMNS.iter().for_each(|name| html += &format!("<th>{name}</th>"));
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        let text = |text: &str| format!("<td>{}</td>", escape(text));
        let figure = |value: f64| format!("<td class=\"n\">{}</td>", grouped(value));
        let mark = match row.reached() {
            Some(true) => " <span class=\"good\">✓ reached</span>",
            Some(false) => " <span class=\"bad\">✗ missed</span>",
            None => "",
        };
        let cells = [
            text(&row.name),
            text(&row.unit),
            figure(row.ours),
            figure(row.peer),
            text(&row.peer_name),
            format!("<td class=\"n\"><strong>{}</strong></td>", times(row.ratio)),
            figure(row.min),
            figure(row.max),
            figure(row.ours_cpu_us),
            figure(row.peer_cpu_us),
            format!("<td>{}{mark}</td>", escape(&row.goal)),
        ];
        writeln!(html, "<tr>{}</tr>", cells.concat()).ok();
    }
    html + "</tbody>\n</table></div>\n"
}

/// A figure with commas between thousands.
fn grouped(value: f64) -> String {
    let text = number(value);
    let digits = text.trim_start_matches('-');
    if digits.len() < 4 || digits.contains('.') {
        return text;
    }
    let mut grouped = String::from(if value < 0.0 { "-" } else { "" });
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Text as it stands in a page, in an attribute too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What XML cannot hold.
            c if c.is_control() && !"\t\n\r".contains(c) => escaped.push('\u{FFFD}'),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The beginning of a text, with a sign that something is left out.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b & \"c\" 'd'\u{0}"), "a&lt;b &amp; &quot;c&quot; &#39;d&#39;\u{FFFD}");
    }

    #[test]
    fn thousands_are_grouped() {
        let texts = [1_234_567.0, 999.0, -1000.0, 12.34, f64::NAN].map(grouped);
        assert_eq!(texts, ["1,234,567", "999", "-1,000", "12.3", ""]);
    }
}
