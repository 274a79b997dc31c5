//! A table of texts, for a terminal or as Markdown.
//!
//! It owns alignment and escaping, not the figures. The invariant: every row has as many cells as the head.

/// The first column is aligned to the left, the others, which hold figures, to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head and no rows.
    pub(crate) fn new<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// Adds a row below the others.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.rows[0].len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// Columns two spaces apart, each line ended.
    pub(crate) fn text(&self) -> String {
        let widths = self.widths(|cell| cell.chars().count());
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).enumerate().map(pad).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// The same as a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let escaped: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| cell.replace('|', "\\|")).collect()).collect();
        let escaped = Self { rows: escaped };
        let widths = escaped.widths(|cell| cell.chars().count().max(3));
        let mut text = String::new();
        for (number, row) in escaped.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).enumerate().map(pad).collect();
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(width + 2),
                    _ => format!("{}:", "-".repeat(width + 1)),
                });
                text.push_str(&format!("|{}|\n", rules.collect::<Vec<_>>().join("|")));
            }
        }
        text
    }

    fn widths(&self, width_of: impl Fn(&str) -> usize) -> Vec<usize> {
        let columns = self.rows[0].len();
        (0..columns).map(|column| self.rows.iter().map(|row| width_of(&row[column])).max().unwrap_or(0)).collect()
    }
}

fn pad((column, (cell, width)): (usize, (&String, &usize))) -> String {
    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["figure", "a", "b|c"]);
        table.push(vec!["p99".into(), "1.5 ms".into(), "2".into()]);
        table.push(vec!["throughput".into(), "7".into(), "12,000".into()]);
        table
    }

    #[test]
    fn text_is_aligned() {
        let want = "\
figure           a     b|c
p99         1.5 ms       2
throughput       7  12,000
";
        assert_eq!(table().text(), want);
    }

    #[test]
    fn markdown_is_aligned_and_escaped() {
        let want = "\
| figure     |      a |   b\\|c |
|------------|-------:|-------:|
| p99        | 1.5 ms |      2 |
| throughput |      7 | 12,000 |
";
        assert_eq!(table().markdown(), want);
    }

    #[test]
    #[should_panic(expected = "a row has a cell for each column")]
    fn a_short_row_is_refused() {
        table().push(vec!["p50".into()]);
    }
}
