//! Tables that fit the terminal: what matters least goes first, then texts are cut. Without a width nothing is.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
};

use anstyle::Style;

use super::plain;

/// A table in the making.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column, and what it is worth.
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Whether it has numbers, which stand below each other by their last digit.
    pub numbers: bool,
    /// Columns worth least are left out first where there is no room; 0: never.
    pub spare: u8,
}

/// One value.
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A value in some style. What others wrote moves no cursor.
    pub fn styled(text: &str, style: Style) -> Self {
        Self { text: plain(text), style }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self::styled(&value.to_string(), Style::new())
    }
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The lines, each with `indent` blanks before it and at most `width` wide.
    pub fn render(&self, indent: usize, width: Option<usize>) -> String {
        let shown = self.fit(width.map(|width| width.saturating_sub(indent)));
        let mut text = String::new();
        let titles: Vec<_> =
            self.columns.iter().map(|column| Cell::styled(column.title, Style::new().bold())).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            text.extend(std::iter::repeat_n(' ', indent));
            let mut behind = 0;
            for (i, &(column, room)) in shown.iter().enumerate() {
                let cell = &row[column];
                let cut = cut(&cell.text, room);
                let free = room - cut.chars().count();
                let (before, after) = if self.columns[column].numbers { (free, 0) } else { (0, free) };
                text.extend(std::iter::repeat_n(' ', behind + before));
                // Writing to a string cannot fail.
                let _ = write!(text, "{}{cut}{}", cell.style.render(), cell.style.render_reset());
                behind = after + if i + 1 < shown.len() { GAP } else { 0 };
            }
            text.push('\n');
        }
        text
    }

    /// Which columns are shown, and how wide.
    fn fit(&self, width: Option<usize>) -> Vec<(usize, usize)> {
        let widest = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].text.chars().count());
            cells.max().unwrap_or(0).max(self.columns[i].title.chars().count())
        };
        // A column that is empty in all rows tells nothing.
        let told = |i: &usize| self.columns[*i].spare == 0 || self.rows.iter().any(|row| !row[*i].text.is_empty());
        let mut shown: Vec<_> = (0..self.columns.len()).filter(told).map(|i| (i, widest(i))).collect();
        let Some(width) = width else { return shown };
        let all = |shown: &[(usize, usize)]| {
            shown.iter().map(|(_, room)| room).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        loop {
            let over = all(&shown).saturating_sub(width);
            if over == 0 {
                return shown;
            }
            // Texts that are long give way before a column goes, but not beyond recognition.
            let longest = shown.iter_mut().filter(|(i, _)| !self.columns[*i].numbers).max_by_key(|(_, room)| *room);
            if let Some((_, room)) = longest
                && *room > LEAST
            {
                *room -= 1;
                continue;
            }
            let spare = shown.iter().filter(|(i, _)| self.columns[*i].spare > 0);
            match spare.max_by_key(|(i, _)| self.columns[*i].spare).map(|(i, _)| *i) {
                Some(least) => {
                    shown.retain(|(i, _)| *i != least);
                    // What was cut for it may be whole again.
                    for (i, room) in &mut shown {
                        *room = widest(*i);
                    }
                }
                None => match shown.iter_mut().max_by_key(|(_, room)| *room) {
                    Some((_, room)) if *room > 1 => *room -= 1,
                    _ => return shown,
                },
            }
        }
    }
}

/// A text in so many columns.
pub fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// How wide the terminal is; `None`: what is written goes elsewhere.
pub fn width() -> Option<usize> {
    let terminal = io::stdout().is_terminal().then(terminal_size::terminal_size)??;
    Some(terminal.0.0.into())
}

const GAP: usize = 2;
/// A text is not cut to less than this while a column could go instead.
const LEAST: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |title, numbers, spare| Column { title, numbers, spare };
        let mut table = Table::new(vec![
            column("NAME", false, 0),
            column("COUNT", true, 1),
            column("SPEED", true, 2),
            column("EMPTY", false, 3),
            column("WHY", false, 0),
        ]);
        for (name, count) in [("a", 7), ("b\u{1b}[31m", 1234)] {
            let why = "because of a long story that has no end";
            table.row(vec![name.into(), count.into(), "1.5 ms".into(), "".into(), why.into()]);
        }
        table
    }

    fn lines(width: Option<usize>) -> Vec<String> {
        anstream::adapter::strip_str(&table().render(1, width)).to_string().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn without_a_width_all_is_told_and_nothing_moves_the_cursor() {
        let lines = lines(None);
        assert_eq!(lines[0], " NAME    COUNT   SPEED  WHY");
        assert_eq!(lines[1], " a           7  1.5 ms  because of a long story that has no end");
        assert_eq!(lines[2], " b\u{fffd}[31m   1234  1.5 ms  because of a long story that has no end");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [200, 65, 60, 50, 40, 30, 20, 12, 8] {
            let lines = lines(Some(width));
            let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width, "{width}: {lines:?}");
        }
        assert_eq!(lines(Some(50))[1], " a           7  1.5 ms  because of a long story t…");
        // The least worth goes first.
        let narrow = &lines(Some(32))[0];
        assert!(narrow.contains("COUNT") && !narrow.contains("SPEED"), "{narrow}");
    }
}
