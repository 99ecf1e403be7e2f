//! `pontoon top`: instances and links of a running daemon as a live table in the terminal.

use std::io::{IsTerminal as _, stdin, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Paragraph, Row as TableRow, Table, TableState, Wrap};
use ratatui::{DefaultTerminal, Frame};
use time::OffsetDateTime;

use super::failure::Failure;
use super::probe::{self, rows};
use super::{Outcome, admin};
use crate::config::{self, Sources};
use crate::log::printable::printable;
use crate::registry::Registry;
use crate::settings::Config;

/// How often the status is read.
const PERIOD: Duration = Duration::from_secs(1);
/// Rows for the whole detail of the selected row.
const DETAIL_ROWS: u16 = 3;
const KEYS: &str = "↑ ↓ PgUp PgDn Home End: select · q: quit";

/// What is on the screen.
#[derive(Default)]
struct Screen {
    rows: Vec<rows::Row>,
    /// Why the rows are old, if they are.
    error: Option<String>,
    selected: TableState,
}

/// Shows the table until `q`, Escape or Ctrl-C.
pub(super) fn run(registry: &Registry, sources: &Sources) -> Outcome {
    let (config, _) = config::shared(registry, sources)?;
    if !(stdin().is_terminal() && stdout().is_terminal()) {
        let advice = "`pontoon status --watch` prints the same elsewhere";
        return Err(Failure::Usage(format!("`pontoon top` needs a terminal; {advice}")));
    }
    // What would never work is an error before the screen changes.
    admin::address(&config)?;
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &config);
    ratatui::try_restore()?;
    shown?;
    Ok(ExitCode::SUCCESS)
}

fn show(terminal: &mut DefaultTerminal, config: &Config) -> std::io::Result<()> {
    let mut screen = Screen::default();
    loop {
        screen.update(config);
        let next = Instant::now() + PERIOD;
        loop {
            terminal.draw(|frame| screen.draw(frame))?;
            if !event::poll(next.saturating_duration_since(Instant::now()))? {
                break;
            }
            if let Event::Key(key) = event::read()?
                && key.is_press()
                && screen.press(key)
            {
                return Ok(());
            }
        }
    }
}

impl Screen {
    fn update(&mut self, config: &Config) {
        let read = probe::body(config).and_then(|body| rows::read(&body, OffsetDateTime::now_utc()));
        match read {
            Ok(rows) => (self.rows, self.error) = (rows, None),
            Err(failure) => self.error = Some(printable(&failure.text())),
        }
    }

    /// Whether the key ends it.
    fn press(&mut self, key: KeyEvent) -> bool {
        let page = 10;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') => return key.modifiers.contains(KeyModifiers::CONTROL),
            KeyCode::Up | KeyCode::Char('k') => self.selected.select_previous(),
            KeyCode::Down | KeyCode::Char('j') => self.selected.select_next(),
            KeyCode::PageUp => self.selected.scroll_up_by(page),
            KeyCode::PageDown => self.selected.scroll_down_by(page),
            KeyCode::Home => self.selected.select_first(),
            KeyCode::End => self.selected.select_last(),
            _ => {}
        }
        false
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [table, detail, foot] =
            Layout::vertical([Constraint::Min(3), Constraint::Length(DETAIL_ROWS), Constraint::Length(1)])
                .areas(frame.area());
        frame.render_stateful_widget(self.table(), table, &mut self.selected);
        let selected = self.selected.selected().and_then(|index| self.rows.get(index));
        let text = selected.and_then(|row| row.last()).map_or("", String::as_str);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).dim(), detail);
        let foot_line = match &self.error {
            Some(error) => Line::from(error.as_str()).red(),
            None => Line::from(KEYS).dim(),
        };
        frame.render_widget(foot_line, foot);
    }

    fn table(&self) -> Table<'static> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let title = rows::COLUMNS.get(column).map_or(0, |title| title.len());
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(title)
        };
        let last = rows::COLUMNS.len() - 1;
        let widths = (0..=last).map(|column| match u16::try_from(width(column)) {
            Ok(width) if column < last => Constraint::Length(width),
            _ => Constraint::Fill(1),
        });
        let rows = self.rows.iter().map(|row| TableRow::new(row.iter().cloned()).style(style(row)));
        Table::new(rows, widths.collect::<Vec<_>>())
            .header(TableRow::new(rows::COLUMNS).bold())
            .row_highlight_style(Style::new().reversed())
            .highlight_symbol(Text::from("> "))
    }
}

/// Red for what does not work, yellow for what is on its way.
fn style(row: &rows::Row) -> Style {
    let colour = match row.get(3).map_or("", String::as_str) {
        "waiting" | "credentials_refused" | "wrong_address" | "not connected" | "not publishing" => {
            Color::Red
        }
        "connecting" | "paused" | "in memory" | "not taken" => Color::Yellow,
        _ => return Style::new(),
    };
    Style::new().fg(colour)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn shown(screen: &mut Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 8)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_selected_row_shows_its_detail_and_an_error_stands_below() {
        let row = |link: &str, detail: &str| {
            let mut row = rows::Row::default();
            [row[0], row[2], row[3], row[9]] =
                ["shop".into(), link.into(), "waiting".into(), detail.to_owned()];
            row
        };
        let long = "refused ".repeat(12) + "finally";
        let mut screen =
            Screen { rows: vec![row("main", "first"), row("second", &long)], ..Screen::default() };
        let text = shown(&mut screen);
        assert!(text.contains("INSTANCE") && text.contains("main") && text.contains("q: quit"), "{text}");
        assert!(!text.contains("finally"), "it is longer than the row: {text}");
        assert!(!screen.press(KeyCode::Down.into()) && !screen.press(KeyCode::Down.into()));
        screen.error = Some("no answer".to_owned());
        let text = shown(&mut screen);
        assert!(text.contains("finally") && text.contains("no answer"), "{text}");
        assert!(screen.press(KeyCode::Char('q').into()));
    }
}
