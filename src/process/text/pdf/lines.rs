//! Glyphs to lines: a space or a line end wherever the distance to the last glyph asks for one.

/// A gap wider than this, in ems, parts words. Kerning stays below it, a narrow space above.
const WORD_GAP: f64 = 0.16;

/// A step back wider than this, in ems, begins something new on the same line.
const BACK_STEP: f64 = 0.6;

/// A step across the line larger than this, in ems, begins a line; indices stay below it.
const LINE_STEP: f64 = 0.6;

/// A step across the line larger than this, in ems, begins a paragraph.
const PARAGRAPH_STEP: f64 = 1.9;

/// A glyph on the page.
pub(super) struct Glyph<'t> {
    /// Where it starts and ends, in the page's units.
    pub start: (f64, f64),
    pub end: (f64, f64),
    /// The unit vector it is written along.
    pub along: (f64, f64),
    /// The size of its font on the page.
    pub em: f64,
    pub text: &'t str,
}

/// The text of a page as it grows.
#[derive(Default)]
pub(super) struct Lines {
    out: String,
    last: Option<Place>,
}

struct Place {
    end: (f64, f64),
    along: (f64, f64),
    em: f64,
}

impl Lines {
    pub(super) fn add(&mut self, glyph: &Glyph) {
        let blank = glyph.text.chars().all(char::is_whitespace);
        if let Some(last) = &self.last {
            let (dx, dy) = (glyph.start.0 - last.end.0, glyph.start.1 - last.end.1);
            let (x, y) = glyph.along;
            let (forward, across) = (dx * x + dy * y, dy * x - dx * y);
            let em = glyph.em.max(last.em);
            let turned = x * last.along.0 + y * last.along.1 < 0.9;
            if turned || across.abs() > LINE_STEP * em {
                let near = !turned && across.abs() < PARAGRAPH_STEP * em;
                if !(near && self.join_hyphenated(glyph.text)) {
                    self.end_line(if across.abs() > PARAGRAPH_STEP * em { 2 } else { 1 });
                }
            } else if forward < -BACK_STEP * em {
                self.end_line(1);
            } else if forward > WORD_GAP * glyph.em.min(last.em) && !blank {
                self.space();
            }
        }
        self.last = Some(Place { end: glyph.end, along: glyph.along, em: glyph.em });
        if blank {
            // A font may lack the space's glyph and show an empty one of no meaning instead.
            if !glyph.text.is_empty() {
                self.space();
            }
        } else {
            glyph.text.chars().for_each(|c| self.push(c));
        }
    }

    /// A word broken at the line's end becomes whole again; false if there is none.
    fn join_hyphenated(&mut self, next: &str) -> bool {
        let line = self.out.trim_end_matches(' ');
        let Some(head) = line.strip_suffix(['-', '\u{2010}', '\u{ad}']) else { return false };
        let broken = head.ends_with(char::is_lowercase) && next.starts_with(char::is_lowercase);
        if broken {
            self.out.truncate(head.len());
        }
        broken
    }

    fn push(&mut self, c: char) {
        match c {
            // Ligatures are a typesetter's affair; searches look for letters.
            '\u{fb00}' => self.out.push_str("ff"),
            '\u{fb01}' => self.out.push_str("fi"),
            '\u{fb02}' => self.out.push_str("fl"),
            '\u{fb03}' => self.out.push_str("ffi"),
            '\u{fb04}' => self.out.push_str("ffl"),
            '\u{fb05}' | '\u{fb06}' => self.out.push_str("st"),
            c if c.is_control() => {}
            c => self.out.push(c),
        }
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
            self.out.push(' ');
        }
    }

    /// Something else follows: it stands on a line of its own.
    pub(super) fn part(&mut self) {
        self.end_line(1);
        self.last = None;
    }

    fn end_line(&mut self, feeds: usize) {
        if self.out.ends_with(' ') {
            self.out.pop();
        }
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            (0..feeds).for_each(|_| self.out.push('\n'));
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.end_line(1);
        self.out
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }
}
