//! The paths a view asks for, compiled once into a tree of names, and the walk that captures them from a payload while
//! it is validated. Called by ingest, pushes and typed reads. Knows nothing of types: a capture is a piece of the text.

use super::keys::Keys;
use super::scan::{Cursor, JsonError, Span, Stop};

/// Paths to capture, compiled.
#[derive(Debug)]
pub struct Plan {
    /// The root is first.
    nodes: Vec<Node>,
    slots: usize,
    avro: bool,
}

/// A name that some path has at this place.
#[derive(Debug, Default)]
struct Node {
    /// Names inside it, with their nodes.
    keys: Keys,
    /// Slots that capture the value here.
    own: Vec<usize>,
    /// Slots that capture something inside it.
    below: Vec<usize>,
}

/// What a scan captured: the place of the raw JSON text per path. Made once, used for every payload.
#[derive(Debug, Default, Clone)]
pub struct Slots {
    /// Start and end; a value cannot start at 0 (the root object does), so (0, 0) is absent.
    ranges: Vec<(u32, u32)>,
}

const ABSENT: (u32, u32) = (0, 0);
const ROOT: u32 = 0;

impl Slots {
    /// No captures yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raw JSON text at path `slot`, absent if the payload has none. `payload` is the one that was scanned.
    #[inline]
    pub fn get<'p>(&self, slot: usize, payload: &'p [u8]) -> Option<&'p [u8]> {
        let (start, end) = self.ranges.get(slot).copied().filter(|range| *range != ABSENT)?;
        payload.get(start as usize..end as usize)
    }
}

impl Default for Plan {
    fn default() -> Self {
        Plan::compile(&[], false)
    }
}

impl Plan {
    /// Slot i captures `paths[i]`; with `avro`, Avro-JSON wrappers of intermediate records are looked through.
    pub fn compile(paths: &[Vec<String>], avro: bool) -> Plan {
        let slots: Vec<usize> = (0..paths.len()).collect();
        let mut nodes = Vec::new();
        add_node(&mut nodes, paths, 0, &slots);
        Plan { nodes, slots: paths.len(), avro }
    }

    /// Validates all of `payload` and captures the raw text at each path (of duplicate names the last). After an error
    /// the captures mean nothing.
    pub fn scan(&self, payload: &[u8], slots: &mut Slots) -> Result<(), JsonError> {
        slots.ranges.clear();
        slots.ranges.resize(self.slots, ABSENT);
        let mut walk = Walk { plan: self, cursor: Cursor::new(payload)?, slots: &mut slots.ranges };
        match walk.root() {
            Ok(true) => Ok(()),
            Ok(false) => Err(JsonError::NotObject),
            Err(stop) => Err(walk.cursor.error(stop)),
        }
    }
}

/// Adds the node that the paths of `slots` share at `depth`, and those below it.
fn add_node(nodes: &mut Vec<Node>, paths: &[Vec<String>], depth: usize, slots: &[usize]) -> u32 {
    let index = nodes.len();
    let (own, below): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| paths[**slot].len() == depth);
    nodes.push(Node { keys: Keys::default(), own, below: below.clone() });
    let mut names: Vec<&str> = below.iter().map(|slot| paths[*slot][depth].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut keys = Vec::new();
    for name in names {
        let inside: Vec<_> = below.iter().copied().filter(|slot| paths[*slot][depth] == name).collect();
        keys.push((name.as_bytes().into(), add_node(nodes, paths, depth + 1, &inside)));
    }
    nodes[index].keys = Keys::new(keys);
    index as u32
}

/// One walk over one payload. The captures of a name that comes again are dropped before its new value is walked.
struct Walk<'a, 'p> {
    plan: &'a Plan,
    cursor: Cursor<'p>,
    slots: &'a mut [(u32, u32)],
}

/// What the members seen so far say an object is, where a wrapper is possible.
#[derive(Clone, Copy)]
enum Seen {
    Nothing,
    /// Only members of this one name, which no path asks for.
    Wrapper(Span),
    Record,
}

impl Walk<'_, '_> {
    /// The whole payload: whether it is an object.
    fn root(&mut self) -> Result<bool, Stop> {
        let object = self.cursor.peek() == b'{';
        if object {
            self.record(ROOT)?;
        } else {
            self.cursor.value()?;
        }
        self.cursor.end()?;
        Ok(object)
    }

    /// The object here, whose members are those of `node`.
    fn record(&mut self, node: u32) -> Result<(), Stop> {
        let mut member = self.cursor.enter_object()?;
        while let Some(name) = member {
            match self.find(node, name) {
                Some(child) => self.capture(child)?,
                None => self.cursor.value()?,
            }
            member = self.cursor.next_member()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn find(&self, node: u32, name: Span) -> Option<u32> {
        let keys = &self.plan.nodes[node as usize].keys;
        let name = self.cursor.text(name);
        if name.escaped { keys.find_escaped(name.raw) } else { keys.find(name.raw) }
    }

    /// The value here is that of `node`.
    #[inline]
    fn capture(&mut self, node: u32) -> Result<(), Stop> {
        let plan = self.plan;
        let start = self.cursor.at();
        self.forget(node);
        match self.cursor.peek() {
            b'{' if plan.nodes[node as usize].keys.is_empty() => self.cursor.value()?,
            b'{' if plan.avro => self.record_or_wrapper(node)?,
            b'{' => self.record(node)?,
            _ => self.cursor.value()?,
        }
        for slot in &plan.nodes[node as usize].own {
            self.slots[*slot] = (start as u32, self.cursor.at() as u32);
        }
        Ok(())
    }

    /// The object here is a record with the members of `node`, or wraps one as Avro-JSON does a union's record branch:
    /// `{"com.example.Signal": {...}}`. Which of them is known only at its end.
    fn record_or_wrapper(&mut self, node: u32) -> Result<(), Stop> {
        let mut seen = Seen::Nothing;
        let mut member = self.cursor.enter_object()?;
        while let Some(name) = member {
            let child = self.find(node, name);
            seen = match seen {
                Seen::Nothing if child.is_none() => Seen::Wrapper(name),
                Seen::Wrapper(first) if self.cursor.text(first).same(self.cursor.text(name)) => seen,
                Seen::Wrapper(_) => {
                    self.forget(node);
                    Seen::Record
                }
                _ => Seen::Record,
            };
            self.member(node, child, seen)?;
            member = self.cursor.next_member()?;
        }
        Ok(())
    }

    fn member(&mut self, node: u32, child: Option<u32>, seen: Seen) -> Result<(), Stop> {
        match (child, seen) {
            (Some(child), _) => self.capture(child),
            (None, Seen::Wrapper(_)) => {
                self.forget(node);
                if self.cursor.peek() == b'{' { self.record(node) } else { self.cursor.value() }
            }
            (None, _) => self.cursor.value(),
        }
    }

    #[inline(always)]
    fn forget(&mut self, node: u32) {
        for slot in &self.plan.nodes[node as usize].below {
            self.slots[*slot] = ABSENT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(paths: &[&str], avro: bool, text: &str) -> Vec<Option<String>> {
        let paths: Vec<Vec<String>> =
            paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
        let mut slots = Slots::new();
        Plan::compile(&paths, avro).scan(text.as_bytes(), &mut slots).unwrap();
        let text_of =
            |slot| slots.get(slot, text.as_bytes()).map(|raw| String::from_utf8(raw.to_vec()).unwrap());
        (0..paths.len()).map(text_of).collect()
    }

    fn one(path: &str, avro: bool, text: &str) -> Option<String> {
        captures(&[path], avro, text).remove(0)
    }

    #[test]
    fn captures_are_the_raw_text() {
        let text = r#"{ "a" : { "b" : [1, 2] , "c":"x\ny" }, "d": 1.50 }"#;
        let got = captures(&["a.b", "a.c", "d", "a", "a.x", "d.x", "a"], false, text);
        let all = r#"{ "b" : [1, 2] , "c":"x\ny" }"#;
        let expected = [Some("[1, 2]"), Some(r#""x\ny""#), Some("1.50"), Some(all), None, None, Some(all)];
        assert_eq!(got, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn bad_13_of_duplicate_names_the_last_counts() {
        assert_eq!(one("a", false, r#"{"a":1,"a":2}"#).unwrap(), "2");
        assert_eq!(one("a", false, r#"{"a":1,"\u0061":2}"#).unwrap(), "2");
        assert_eq!(one("a.b", false, r#"{"a":{"b":1},"a":{"b":2}}"#).unwrap(), "2");
        assert_eq!(one("a.b", false, r#"{"a":{"b":1},"a":{"c":2}}"#), None);
        assert_eq!(one("a.b", false, r#"{"a":{"b":1},"a":null}"#), None);
    }

    #[test]
    fn names_with_escapes_are_found_by_value() {
        assert_eq!(one("a\"b", false, r#"{"a\"b":1}"#).unwrap(), "1");
        assert_eq!(one("\u{e9}", false, r#"{"\u00E9":1}"#).unwrap(), "1");
    }

    #[test]
    fn avro_record_branches_are_looked_through() {
        assert_eq!(one("a.b", true, r#"{"a":{"com.x.Rec":{"b":1}}}"#).unwrap(), "1");
        assert_eq!(one("a.b", true, r#"{"a":{"b":1}}"#).unwrap(), "1");
        assert_eq!(one("a.b", false, r#"{"a":{"com.x.Rec":{"b":1}}}"#), None);
        assert_eq!(one("a.b.c", true, r#"{"a":{"R":{"b":{"S":{"c":1}}}}}"#).unwrap(), "1");
        assert_eq!(one("a.b", true, r#"{"a":{"R":{"b":{"double":1}}}}"#).unwrap(), r#"{"double":1}"#);
    }

    #[test]
    fn an_object_of_several_names_is_no_wrapper() {
        assert_eq!(one("a.b", true, r#"{"a":{"x":{"b":1},"y":2}}"#), None);
        assert_eq!(one("a.b", true, r#"{"a":{"x":{"b":1},"b":2}}"#).unwrap(), "2");
        assert_eq!(captures(&["a.b", "a.c"], true, r#"{"a":{"x":{"b":1},"c":2}}"#), [None, Some("2".into())]);
        assert_eq!(one("a.b", true, r#"{"a":{"x":{"b":1},"x":{"b":2}}}"#).unwrap(), "2");
        assert_eq!(one("a.b", true, r#"{"a":{"x":{"b":1},"x":0}}"#), None);
        assert_eq!(one("b", true, r#"{"x":{"b":1}}"#), None);
    }
}
