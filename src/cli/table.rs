//! A small column printer. It never wraps: where the terminal is too narrow it shortens the widest columns, and a file or pipe gets
//! everything.

use super::terminal::{Style, Terminal, paint, printable};

/// The space between two columns.
const GAP: &str = "  ";
/// No column is shortened below this.
const COLUMN_WIDTH_MIN: usize = 6;

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<&'static str>,
    right_aligned: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

/// One field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Table {
    /// A table with these columns; those whose heading ends in `>` are aligned to the right (numbers).
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.iter().map(|heading| heading.trim_end_matches('>')).collect(),
            right_aligned: headings.iter().map(|heading| heading.ends_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// It has another number of cells than there are headings: rows are written in this program beside their headings.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.headings.len(), "a row has a cell for each heading");
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn print(&self, terminal: &mut Terminal) -> std::io::Result<()> {
        for line in self.lines(terminal.width(), terminal.colours()) {
            terminal.line(&line)?;
        }
        Ok(())
    }

    /// Its lines, headings first.
    #[must_use]
    pub fn lines(&self, width: Option<usize>, colours: bool) -> Vec<String> {
        let widths = self.widths(width);
        let headings = self.headings.iter().map(|heading| Cell { text: (*heading).to_owned(), style: Style::Bold });
        let headings: Vec<_> = headings.collect();
        let all = std::iter::once(&headings).chain(&self.rows);
        all.map(|row| self.line(row, &widths, colours)).collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize], colours: bool) -> String {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let text = shorten(&cell.text, widths[column]);
            let padding = " ".repeat(widths[column] - length(&text));
            let painted = paint(colours, cell.style, &text);
            let is_last = column + 1 == row.len();
            match (self.right_aligned[column], is_last) {
                (true, _) => line.extend([padding.as_str(), &painted]),
                // No spaces at the end of a line.
                (false, true) => line.push_str(&painted),
                (false, false) => line.extend([&painted, padding.as_str()]),
            }
            if !is_last {
                line.push_str(GAP);
            }
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// What each column needs; where that is too much, the widest give way, one column at a time.
    fn widths(&self, width: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| length(heading)).collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                widths[column] = widths[column].max(length(&cell.text));
            }
        }
        let Some(width) = width else { return widths };
        let gaps = GAP.len() * (widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() + gaps > width {
            let widest = widths.iter_mut().max().expect("a table has columns");
            if *widest <= COLUMN_WIDTH_MIN {
                break;
            }
            *widest -= 1;
        }
        widths
    }
}

impl Cell {
    /// A cell in a style; text of others is made safe to show.
    #[must_use]
    pub fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), style }
    }
}

impl Cell {
    /// Its text, safe to show.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// The columns that a text takes, taking each character for one: good for the Latin, Arabic and Cyrillic names that occur; wide East
/// Asian characters only push their line out of its columns.
fn length(text: &str) -> usize {
    text.chars().count()
}

fn shorten(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["SUBJECT", "COUNT>", "NAME"]);
        table.row(vec!["MSKU9070323".into(), "7".into(), "spiffe://customs.gov.pk/agency/karachi".into()]);
        table.row(vec!["X".into(), Cell::styled("12000", Style::Bad), "".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        assert_eq!(
            table().lines(None, false),
            [
                "SUBJECT      COUNT  NAME",
                "MSKU9070323      7  spiffe://customs.gov.pk/agency/karachi",
                "X            12000",
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_shortens_the_widest_column() {
        let lines = table().lines(Some(40), false);
        assert_eq!(lines[1], "MSKU9070323      7  spiffe://customs.go…");
        assert!(lines.iter().all(|line| line.chars().count() <= 40));
    }

    #[test]
    fn styles_do_not_count_as_width_and_foreign_text_is_made_safe() {
        let lines = table().lines(None, true);
        assert_eq!(lines[2], "X            \u{1b}[31m12000\u{1b}[0m");
        assert_eq!(Cell::from("a\u{1b}b"), Cell { text: "a\u{fffd}b".to_owned(), style: Style::Plain });
    }
}
