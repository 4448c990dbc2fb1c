//! Numbers that are dates: which formats make them so, and which day a number is.

use std::collections::HashMap;

use quick_xml::events::BytesStart;

use super::super::xml::{Visitor, attribute, count};

/// How a number is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Number,
    Date,
    /// A span of time, such as `[h]:mm`.
    Span,
}

/// The cell formats of a workbook, as far as dates go.
#[derive(Default)]
pub(super) struct Formats {
    /// By number format.
    own: HashMap<usize, Shown>,
    /// By a cell's style.
    styles: Vec<Shown>,
    in_cells: bool,
}

impl Visitor for Formats {
    fn enter(&mut self, name: &str, element: &BytesStart) {
        match name {
            "numFmt" => {
                let code = attribute(element, "formatCode").unwrap_or_default();
                if let Some(id) = count(element, "numFmtId") {
                    self.own.insert(id, shown(&code));
                }
            }
            "cellXfs" => self.in_cells = true,
            "xf" if self.in_cells => {
                let id = count(element, "numFmtId").unwrap_or(0);
                let known = self.own.get(&id).copied();
                self.styles.push(known.unwrap_or_else(|| built_in(id)));
            }
            _ => {}
        }
    }

    fn leave(&mut self, name: &str) {
        self.in_cells &= name != "cellXfs";
    }
}

/// The formats that need not be written down (18.8.30), those of eastern languages included.
const fn built_in(id: usize) -> Shown {
    match id {
        14..=22 | 27..=36 | 45 | 47 | 50..=58 => Shown::Date,
        46 => Shown::Span,
        _ => Shown::Number,
    }
}

/// What a format's code makes of a number (18.8.31).
fn shown(code: &str) -> Shown {
    let mut chars = code.split(';').next().unwrap_or_default().chars();
    while let Some(c) = chars.next() {
        match c.to_ascii_lowercase() {
            '"' => drop(chars.by_ref().find(|c| *c == '"')),
            '\\' | '_' | '*' => drop(chars.next()),
            '[' => {
                let inner: String = chars.by_ref().take_while(|c| *c != ']').collect();
                if matches!(
                    inner.to_ascii_lowercase().as_str(),
                    "h" | "hh" | "m" | "mm" | "s" | "ss"
                ) {
                    return Shown::Span;
                }
            }
            'd' | 'm' | 'y' | 'h' | 's' => return Shown::Date,
            // The word `General` has none of these letters.
            _ => {}
        }
    }
    Shown::Number
}

/// Numbers as text.
pub(super) struct Dates {
    pub formats: Formats,
    /// Whether day 0 is the first of 1904, as on old Macintoshes.
    pub from_1904: bool,
}

const SECONDS_A_DAY: f64 = 86_400.0;

/// The last day there is: 9999-12-31.
const LAST_DAY: f64 = 2_958_466.0;

impl Dates {
    pub(super) fn show(&self, number: f64, style: usize) -> String {
        let shown = self.formats.styles.get(style).copied().unwrap_or_default();
        match shown {
            Shown::Date if (0.0..LAST_DAY).contains(&number) => self.date(number),
            Shown::Span if (0.0..LAST_DAY).contains(&number) => {
                let seconds = whole(number * SECONDS_A_DAY);
                format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
            }
            _ => plain(number),
        }
    }

    /// The day, the time of day, or both.
    fn date(&self, number: f64) -> String {
        let milliseconds = whole(number * SECONDS_A_DAY * 1000.0);
        let (seconds, fraction) = (milliseconds / 1000, milliseconds % 1000);
        let (day, of_day) = (seconds / 86_400, seconds % 86_400);
        let time = format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
        let time = if fraction == 0 { time } else { format!("{time}.{fraction:03}") };
        if day == 0 && !self.from_1904 {
            return time;
        }
        // Days since 1970. The 29th of February 1900 never was, but has a number.
        let since = match (self.from_1904, day) {
            (true, _) => day - 24_107,
            (false, 61..) => day - 25_569,
            (false, _) => day - 25_568,
        };
        let (year, month, day) = civil(since);
        let date = format!("{year:04}-{month:02}-{day:02}");
        if of_day == 0 && fraction == 0 { date } else { format!("{date} {time}") }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the callers bound it")]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

/// A number as short as it can be read back; whole ones without a point.
fn plain(number: f64) -> String {
    if number.abs() >= 1e16 || (number != 0.0 && number.abs() < 1e-5) {
        format!("{number:e}")
    } else {
        format!("{number}")
    }
}

/// The date of a day since 1970 in the Gregorian calendar (H. Hinnant's algorithm).
const fn civil(since: i64) -> (i64, i64, i64) {
    let shifted = since + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_dates_from_numbers() {
        for code in ["yyyy-mm-dd", "[$-409]d\\-mmm;@", "h:mm AM/PM", "\"on\" d"] {
            assert_eq!(shown(code), Shown::Date, "{code}");
        }
        for code in ["General", "0.00", "\"days\" 0", "[Red]0", "#,##0\\d", "0;[Red]d", "_d0"] {
            assert_eq!(shown(code), Shown::Number, "{code}");
        }
        assert_eq!(shown("[hh]:mm"), Shown::Span);
    }

    #[test]
    fn days_are_counted_from_either_beginning() {
        let formats = || Formats {
            styles: vec![Shown::Number, Shown::Date, Shown::Span],
            ..Formats::default()
        };
        let dates = Dates { formats: formats(), from_1904: false };
        for (number, text) in [
            (1.0, "1900-01-01"),
            (59.0, "1900-02-28"),
            (61.0, "1900-03-01"),
            (39_083.5, "2007-01-01 12:00:00"),
            (0.25, "06:00:00"),
            (2_958_465.0, "9999-12-31"),
            (-1.0, "-1"),
        ] {
            assert_eq!(dates.show(number, 1), text);
        }
        assert_eq!(dates.show(1.5, 2), "36:00:00");
        assert_eq!((dates.show(0.1, 0), dates.show(1e300, 9)), ("0.1".into(), "1e300".into()));
        let old = Dates { formats: formats(), from_1904: true };
        assert_eq!(old.show(0.0, 1), "1904-01-01");
    }
}
