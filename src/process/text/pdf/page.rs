//! A page's content stream, run for its text operators (9.4) and what moves them.

use std::collections::HashMap;
use std::rc::Rc;

use lopdf::content::{Content, Operation};
use lopdf::{DecompressError, Dictionary, Document, Error, Object, ObjectId, Stream};

use super::super::super::frame::Fault;
use super::font::Font;
use super::lines::{Glyph, Lines};
use super::{MAX_STREAM, dictionary, entry, fault, numbers, resources};

/// Operations all pages together may have, forms counted each time they are drawn.
const MAX_OPERATIONS: u64 = 50_000_000;

/// Bytes all content may unpack to.
const MAX_UNPACKED: usize = 1 << 30;

/// Bytes of text all pages may have.
const MAX_TEXT: usize = 256 << 20;

/// Forms drawn within forms; deeper ones are not drawn.
const MAX_NESTED_FORMS: usize = 16;

/// Forms all pages together may draw. One that draws itself thrice would be drawn 3^16 times.
const MAX_FORMS: u32 = 200_000;

/// Graphics states saved within one another; more are not saved.
const MAX_STATES: usize = 256;

/// A transformation (8.3.4): [a b c d e f].
type Matrix = [f64; 6];

const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// `first`, then `second`.
fn then(first: &Matrix, second: &Matrix) -> Matrix {
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (first, second);
    let (top, middle) = ([a * g + b * i, a * h + b * j], [c * g + d * i, c * h + d * j]);
    [top[0], top[1], middle[0], middle[1], e * g + f * i + k, e * h + f * j + l]
}

/// The part of the graphics state that places text.
#[derive(Clone)]
struct State {
    ctm: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    /// Horizontal scaling, as a factor.
    stretch: f64,
    leading: f64,
    rise: f64,
}

impl State {
    fn new(ctm: Matrix) -> Self {
        let (size, leading, rise) = (1.0, 0.0, 0.0);
        Self {
            ctm,
            font: None,
            size,
            char_space: 0.0,
            word_space: 0.0,
            stretch: 1.0,
            leading,
            rise,
        }
    }
}

/// Reads the pages of one document; fonts are read once.
pub(super) struct Reader<'d> {
    document: &'d Document,
    fonts: HashMap<*const Dictionary, Rc<Font>>,
    operations_left: u64,
    forms_left: u32,
    bytes_left: usize,
    text_left: usize,
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self {
            document,
            fonts: HashMap::new(),
            operations_left: MAX_OPERATIONS,
            forms_left: MAX_FORMS,
            bytes_left: MAX_UNPACKED,
            text_left: MAX_TEXT,
        }
    }

    /// The text of a page, then that of its form fields and free text notes.
    pub(super) fn page(&mut self, page: ObjectId) -> Result<String, Fault> {
        let content = self.document.get_page_content_with_limit(page, MAX_STREAM);
        let content = content.map_err(|error| fault(&error))?;
        self.pay(content.len())?;
        let mut lines = Lines::default();
        let resources = resources(self.document, page);
        self.run(&content, resources, State::new(IDENTITY), 0, &mut lines)?;
        for (ctm, appearance) in self.appearances(page) {
            lines.part();
            self.form(appearance, resources, State::new(ctm), 0, &mut lines)?;
        }
        let text = lines.finish();
        self.text_left = self.text_left.checked_sub(text.len()).ok_or(Fault::Limit)?;
        Ok(text)
    }

    fn pay(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Fault::Bomb)?;
        Ok(())
    }

    /// What the page's form fields and free text notes show, and where.
    fn appearances(&self, page: ObjectId) -> Vec<(Matrix, &'d Stream)> {
        let document = self.document;
        let Ok(page) = document.get_dictionary(page) else { return Vec::new() };
        let notes = entry(document, page, b"Annots").and_then(|notes| notes.as_array().ok());
        let shown = |note: &'d Object| {
            let note = document.dereference(note).ok()?.1.as_dict().ok()?;
            let subtype = entry(document, note, b"Subtype")?.as_name().ok()?;
            if !matches!(subtype, b"Widget" | b"FreeText") {
                return None;
            }
            let normal = entry(document, dictionary(document, note, b"AP")?, b"N")?;
            let stream = match normal {
                Object::Stream(stream) => stream,
                // One appearance for each state, such as on and off.
                Object::Dictionary(states) => {
                    let state = entry(document, note, b"AS")?.as_name().ok()?;
                    entry(document, states, state)?.as_stream().ok()?
                }
                _ => return None,
            };
            let corner = numbers(document, note, b"Rect")?;
            let [x, y, ..] = corner.as_slice() else { return None };
            Some(([1.0, 0.0, 0.0, 1.0, *x, *y], stream))
        };
        notes.into_iter().flatten().take(10_000).filter_map(shown).collect()
    }

    fn form(
        &mut self,
        form: &'d Stream,
        outer: Option<&'d Dictionary>,
        mut state: State,
        depth: usize,
        lines: &mut Lines,
    ) -> Result<(), Fault> {
        if depth >= MAX_NESTED_FORMS {
            return Ok(());
        }
        self.forms_left = self.forms_left.checked_sub(1).ok_or(Fault::Complex)?;
        let content = match form.get_plain_content_with_limit(MAX_STREAM) {
            Ok(content) => content,
            Err(Error::Decompress(DecompressError::MemoryLimitExceeded { .. })) => {
                return Err(Fault::Bomb);
            }
            // A damaged form is missing on the page too.
            Err(_) => return Ok(()),
        };
        self.pay(content.len())?;
        if let Some([a, b, c, d, e, f]) = numbers(self.document, &form.dict, b"Matrix").as_deref() {
            state.ctm = then(&[*a, *b, *c, *d, *e, *f], &state.ctm);
        }
        let own = dictionary(self.document, &form.dict, b"Resources");
        self.run(&content, own.or(outer), state, depth + 1, lines)
    }

    fn run(
        &mut self,
        content: &[u8],
        resources: Option<&'d Dictionary>,
        state: State,
        depth: usize,
        lines: &mut Lines,
    ) -> Result<(), Fault> {
        let mut pen = Pen { state, saved: Vec::new(), text: IDENTITY, line: IDENTITY };
        for operation in Content::decode_iter(content) {
            // What stands before the damage is shown, as viewers do.
            let Ok(operation) = operation else { break };
            self.operations_left = self.operations_left.checked_sub(1).ok_or(Fault::Complex)?;
            if lines.len() > self.text_left {
                return Err(Fault::Limit);
            }
            match operation.operator.as_str() {
                "Tf" => self.set_font(&operation, resources, &mut pen.state),
                "Do" => {
                    let name = operation.operands.first().and_then(|name| name.as_name().ok());
                    let known = resources.and_then(|r| dictionary(self.document, r, b"XObject"));
                    let object = name.zip(known).and_then(|(n, k)| entry(self.document, k, n));
                    if let Some(Object::Stream(stream)) = object
                        && stream.dict.get(b"Subtype").and_then(Object::as_name).ok()
                            == Some(b"Form")
                    {
                        self.form(stream, resources, pen.state.clone(), depth, lines)?;
                    }
                }
                _ => pen.obey(&operation, lines),
            }
        }
        Ok(())
    }

    fn set_font(
        &mut self,
        operation: &Operation,
        resources: Option<&'d Dictionary>,
        state: &mut State,
    ) {
        let [Object::Name(name), size, ..] = operation.operands.as_slice() else { return };
        state.size = size.as_float().map_or(1.0, f64::from);
        let fonts = resources.and_then(|r| dictionary(self.document, r, b"Font"));
        let font = fonts.and_then(|fonts| dictionary(self.document, fonts, name));
        state.font = font.map(|font| {
            let read = || Rc::new(Font::read(self.document, font));
            self.fonts.entry(std::ptr::from_ref(font)).or_insert_with(read).clone()
        });
    }
}

/// The pen that writes one content stream.
struct Pen {
    state: State,
    saved: Vec<State>,
    text: Matrix,
    line: Matrix,
}

impl Pen {
    fn obey(&mut self, operation: &Operation, lines: &mut Lines) {
        let operands = operation.operands.as_slice();
        let at = |index: usize| {
            let number = operands.get(index).and_then(|number| number.as_float().ok());
            number.map_or(0.0, f64::from)
        };
        let matrix = || [at(0), at(1), at(2), at(3), at(4), at(5)];
        match operation.operator.as_str() {
            "q" if self.saved.len() < MAX_STATES => self.saved.push(self.state.clone()),
            "Q" => self.state = self.saved.pop().unwrap_or_else(|| self.state.clone()),
            "cm" => self.state.ctm = then(&matrix(), &self.state.ctm),
            "BT" => (self.text, self.line) = (IDENTITY, IDENTITY),
            "Tm" => (self.text, self.line) = (matrix(), matrix()),
            "Td" => self.next_line(at(0), at(1)),
            "TD" => {
                self.state.leading = -at(1);
                self.next_line(at(0), at(1));
            }
            "T*" => self.next_line(0.0, -self.state.leading),
            "Tc" => self.state.char_space = at(0),
            "Tw" => self.state.word_space = at(0),
            "Tz" => self.state.stretch = at(0) / 100.0,
            "TL" => self.state.leading = at(0),
            "Ts" => self.state.rise = at(0),
            "Tj" | "TJ" => self.show(operands.first(), lines),
            "'" => {
                self.next_line(0.0, -self.state.leading);
                self.show(operands.first(), lines);
            }
            "\"" => {
                (self.state.word_space, self.state.char_space) = (at(0), at(1));
                self.next_line(0.0, -self.state.leading);
                self.show(operands.get(2), lines);
            }
            _ => {}
        }
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.line = then(&[1.0, 0.0, 0.0, 1.0, x, y], &self.line);
        self.text = self.line;
    }

    fn advance(&mut self, x: f64) {
        self.text = then(&[1.0, 0.0, 0.0, 1.0, x, 0.0], &self.text);
    }

    /// Shows a string, or an array of strings and steps between them.
    fn show(&mut self, operand: Option<&Object>, lines: &mut Lines) {
        match operand {
            Some(Object::String(bytes, _)) => self.show_string(bytes, lines),
            Some(Object::Array(parts)) => {
                for part in parts {
                    if let Object::String(bytes, _) = part {
                        self.show_string(bytes, lines);
                    } else if let Ok(step) = part.as_float() {
                        let step = f64::from(step) / 1000.0 * self.state.size;
                        self.advance(-step * self.state.stretch);
                    }
                }
            }
            _ => {}
        }
    }

    fn show_string(&mut self, bytes: &[u8], lines: &mut Lines) {
        let Some(font) = self.state.font.clone() else { return };
        let State { size, stretch, rise, char_space, word_space, .. } = self.state;
        font.codes(bytes, |code| {
            let raised = then(&[1.0, 0.0, 0.0, 1.0, 0.0, rise], &self.text);
            let [a, b, c, d, x, y] = then(&raised, &self.state.ctm);
            let (length, height) = (a.hypot(b), c.hypot(d));
            let step = code.width / 1000.0 * size * stretch;
            let em = height * size.abs();
            if length > 0.0 && em > 0.0 && em.is_finite() && !code.text.is_empty() {
                let sign = if size < 0.0 { -1.0 } else { 1.0 };
                lines.add(&Glyph {
                    start: (x, y),
                    end: (x + a * step, y + b * step),
                    along: (sign * a / length, sign * b / length),
                    em,
                    text: &code.text,
                });
            }
            let extra = char_space + if code.is_space { word_space } else { 0.0 };
            self.advance(step + extra * stretch);
        });
    }
}
