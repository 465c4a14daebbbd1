//! A pickle reader that executes nothing: what Python would construct by calling a function stays a name.
//!
//! A pickle is a program for a stack machine, and a hostile one may call any function of Python. This machine knows no
//! functions. It builds numbers, text, lists, tuples and dictionaries; a call becomes a [`Value::Call`] that holds the
//! name, the arguments and the state that the object would get, and the caller handles the few names that it knows.
//!
//! Memory is bounded by the size of the file: every instruction adds a bounded amount, and lengths are checked against
//! the bytes that remain. A file with large arrays need not be held: [`index`] leaves them where they are, and says where.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Seek};
use std::rc::Rc;

/// Largest depth of nested containers.
const MAX_DEPTH: usize = 32;
/// Largest number of entries: ten times that of the largest networks.
const MAX_ENTRIES: usize = 1 << 20;
/// Longer runs of bytes are not held by an index.
const MAX_INDEXED_BYTES: u64 = 1 << 12;

/// The attributes in which a module of PyTorch keeps its tensors and its parts.
pub const MODULE_ATTRIBUTES: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// The content of a pickle. All containers are in one list, so that nesting depth and cycles do no harm.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    /// The outermost value.
    pub root: Value,
    /// Length of the pickle in bytes.
    pub num_bytes: u64,
}

/// A container.
#[derive(Debug)]
enum Node {
    Items(Vec<Value>),
    Entries(Vec<(Value, Value)>),
    Call {
        callee: Value,
        arguments: Value,
        state: Option<Value>,
    },
    Persistent(Value),
}

/// A value; containers are read through their [`Pickle`].
#[derive(Debug, Clone)]
pub enum Value {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// Bytes that were left in the file, by [`index`].
    Stored {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        num_bytes: u64,
    },
    /// A tuple, list or set: [`Pickle::items`].
    Items(usize),
    /// A dictionary: [`Pickle::entries`].
    Dict(usize),
    /// A class or function by its full name.
    Global(Rc<str>),
    /// A call that was not made: [`Pickle::call`].
    Call(usize),
    /// An object that lies outside of the pickle: [`Pickle::persistent`].
    Persistent(usize),
    /// A value that is not supported, such as an integer of a thousand digits.
    Opaque,
}

/// Why a pickle cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The bytes end too early.
    #[error("the pickle ends in the middle of an instruction, at byte {at}")]
    Truncated {
        /// Where it ends, in bytes.
        at: u64,
    },
    /// The file cannot be read.
    #[error("the pickle cannot be read")]
    Io(#[from] io::Error),
    /// An unknown instruction.
    #[error("unknown instruction {code:#04x} at byte {at}")]
    UnknownInstruction {
        /// The instruction.
        code: u8,
        /// Offset of the instruction in bytes.
        at: u64,
    },
    /// An instruction with wrong operands on the stack.
    #[error("the instruction {code:#04x} at byte {at} does not fit what is there")]
    Misplaced {
        /// The instruction.
        code: u8,
        /// Offset of the instruction in bytes.
        at: u64,
    },
}

impl Value {
    /// Text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it can hold other values.
    fn is_container(&self) -> bool {
        matches!(self, Self::Items(_) | Self::Dict(_) | Self::Call(_))
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }
}

impl Pickle {
    /// The members of a tuple, list or set.
    #[must_use]
    pub fn items(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Items(id) => match &self.nodes[*id] {
                Node::Items(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    /// The entries of a dictionary, in the order of insertion. `OrderedDict` and `defaultdict` are dictionaries as well.
    #[must_use]
    pub fn entries(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(id) => match &self.nodes[*id] {
                Node::Entries(entries) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// What would be called, by name, and with which arguments.
    #[must_use]
    pub fn call(&self, value: &Value) -> Option<(&str, &[Value])> {
        match value {
            Value::Call(id) => match &self.nodes[*id] {
                Node::Call {
                    callee: Value::Global(name),
                    arguments,
                    ..
                } => Some((name, self.items(arguments).unwrap_or_default())),
                _ => None,
            },
            _ => None,
        }
    }

    /// The attributes that the object of a call would get.
    #[must_use]
    pub fn attributes(&self, value: &Value) -> Option<&[(Value, Value)]> {
        self.entries(self.state(value)?)
    }

    /// What would be set as the state of the object of a call.
    #[must_use]
    pub fn state(&self, value: &Value) -> Option<&Value> {
        match value {
            Value::Call(id) => match &self.nodes[*id] {
                Node::Call { state, .. } => state.as_ref(),
                _ => None,
            },
            _ => None,
        }
    }

    /// What names an object that lies outside.
    #[must_use]
    pub fn persistent(&self, value: &Value) -> Option<&Value> {
        match value {
            Value::Persistent(id) => match &self.nodes[*id] {
                Node::Persistent(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Calls `visit` with the dotted path of every entry of nested dictionaries, of every member of lists and tuples that
    /// can hold something, and of every attribute, and does not go into a value for which it returns true. The
    /// attributes in which PyTorch's modules keep their tensors and parts have no name in paths, as in a state dict.
    /// Values that lie too deep, or beyond a million, are not visited.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&str, &'a Value) -> bool) {
        let mut budget = MAX_ENTRIES;
        self.walk_from("", &self.root, 0, &mut budget, visit);
    }

    fn walk_from<'a>(
        &'a self,
        path: &str,
        value: &'a Value,
        depth: usize,
        budget: &mut usize,
        visit: &mut impl FnMut(&str, &'a Value) -> bool,
    ) {
        if depth >= MAX_DEPTH {
            return;
        }
        let entries = self.entries(value).or_else(|| self.attributes(value));
        let entries = entries.unwrap_or_default().iter().filter_map(|(key, value)| {
            Some(match key {
                Value::Text(text) => (text.to_string(), value),
                Value::Int(int) => (int.to_string(), value),
                _ => return None,
            })
        });
        let items = self.items(value).unwrap_or_default().iter().enumerate();
        let items = items
            .filter(|(_, value)| value.is_container())
            .map(|(idx, value)| (idx.to_string(), value));
        let is_object = matches!(value, Value::Call(_));
        for (name, value) in entries.chain(items) {
            // A container may stand in many places, so the file's size does not bound the walk.
            if *budget == 0 {
                return;
            }
            *budget -= 1;
            if is_object && MODULE_ATTRIBUTES.contains(&name.as_str()) {
                self.walk_from(path, value, depth + 1, budget, visit);
                continue;
            }
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            };
            if !visit(&path, value) {
                self.walk_from(&path, value, depth + 1, budget, visit);
            }
        }
    }
}

/// Reads one pickle.
///
/// # Errors
/// Where the bytes are no pickle, or use an instruction that is not known.
pub fn read(bytes: &[u8]) -> Result<Pickle, PickleError> {
    run(Cursor::new(bytes), bytes.len() as u64, u64::MAX)
}

/// Reads the pickle that a file holds, and leaves runs of more than 4 KiB in it, as [`Value::Stored`]: memory grows with the
/// number of its values, not with their size.
///
/// # Errors
/// As for [`read`], and where the file cannot be read.
pub fn index(file: &File) -> Result<Pickle, PickleError> {
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    reader.rewind()?;
    run(reader, len, MAX_INDEXED_BYTES)
}

fn run(input: impl BufRead + Seek, len: u64, max_held_bytes: u64) -> Result<Pickle, PickleError> {
    let mut machine = Machine {
        input,
        at: 0,
        len,
        max_held_bytes,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let (at, code) = (machine.at, machine.byte()?);
        if code == b'.' {
            let root = machine.pop().ok_or(PickleError::Misplaced { code, at })?;
            return Ok(Pickle {
                nodes: machine.nodes,
                root,
                num_bytes: machine.at,
            });
        }
        machine.step(code, at)?;
    }
}

struct Machine<Input> {
    input: Input,
    at: u64,
    /// Length of the input in bytes.
    len: u64,
    /// Longer runs of bytes stay in the input.
    max_held_bytes: u64,
    nodes: Vec<Node>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
}

impl<Input: BufRead + Seek> Machine<Input> {
    fn step(&mut self, code: u8, at: u64) -> Result<(), PickleError> {
        match code {
            // Protocol and frame say nothing that is needed.
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop();
            }
            b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => {
                let number = self.number(code)?;
                self.stack.push(number);
            }
            b'X' | b'V' | b'S' | b'T' | b'U' | b'B' | b'C' | 0x8c | 0x8d | 0x8e | 0x96 => {
                let text = self.text(code)?;
                self.stack.push(text);
            }
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => return self.remember(code, at),
            _ => {
                return self.build(code)?.ok_or(if KNOWN_BUILDERS.contains(&code) {
                    PickleError::Misplaced { code, at }
                } else {
                    PickleError::UnknownInstruction { code, at }
                });
            }
        }
        Ok(())
    }

    /// Constants.
    fn number(&mut self, code: u8) -> Result<Value, PickleError> {
        Ok(match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let len = u64::from(self.byte()?);
                little_endian(&self.take(len)?)
            }
            0x8b => {
                let len = u64::from(u32::from_le_bytes(self.array()?));
                little_endian(&self.take(len)?)
            }
            b'F' => self.line()?.parse().map_or(Value::Opaque, Value::Float),
            _ => match self.line()?.trim_end_matches('L') {
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                digits => digits.parse().map_or(Value::Opaque, Value::Int),
            },
        })
    }

    /// Text and bytes.
    fn text(&mut self, code: u8) -> Result<Value, PickleError> {
        let len = match code {
            b'V' => return Ok(Value::Text(self.line()?.into())),
            b'S' => return Ok(Value::Text(self.line()?.trim_matches(['\'', '"']).into())),
            b'U' | b'C' | 0x8c => u64::from(self.byte()?),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        // What Python 2 called text holds the bytes of arrays too.
        if len > self.max_held_bytes && !matches!(code, b'X' | 0x8c | 0x8d) {
            let offset = self.at;
            self.skip(len)?;
            return Ok(Value::Stored {
                offset,
                num_bytes: len,
            });
        }
        let taken = self.take(len)?;
        Ok(match code {
            b'X' | b'T' | b'U' | 0x8c | 0x8d => Value::Text(String::from_utf8_lossy(&taken).into()),
            _ => Value::Bytes(taken.into()),
        })
    }

    /// To and from the memo.
    fn remember(&mut self, code: u8, at: u64) -> Result<(), PickleError> {
        let misplaced = || PickleError::Misplaced { code, at };
        let key = match code {
            b'p' | b'g' => self.line()?.parse().map_err(|_| misplaced())?,
            b'q' | b'h' => u64::from(self.byte()?),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.memo.len() as u64,
        };
        if matches!(code, b'g' | b'h' | b'j') {
            let value = self.memo.get(&key).ok_or_else(misplaced)?;
            self.stack.push(value.clone());
        } else {
            let value = self.stack.last().ok_or_else(misplaced)?;
            self.memo.insert(key, value.clone());
        }
        Ok(())
    }

    /// Containers, names and calls; `None` where the stack does not hold what is needed.
    fn build(&mut self, code: u8) -> Result<Option<()>, PickleError> {
        let value = match code {
            b'c' => Some(self.global()?),
            b'P' => {
                let name = Value::Text(self.line()?.into());
                Some(self.persistent(name))
            }
            b'i' => {
                let callee = self.global()?;
                let arguments = self.above_mark();
                arguments.map(|arguments| {
                    let arguments = self.items(arguments);
                    self.call(callee, arguments)
                })
            }
            b']' | 0x8f | b')' => Some(self.items(Vec::new())),
            b'}' => Some(self.dict(Vec::new())),
            b'2' => self.stack.last().cloned(),
            b'1' => return Ok(self.above_mark().map(drop)),
            b'a' | b'e' | 0x90 => return Ok(self.append(code)),
            b's' | b'u' => return Ok(self.set_items(code)),
            b'b' => return Ok(self.set_state()),
            _ => self.compose(code),
        };
        Ok(value.map(|value| self.stack.push(value)))
    }

    fn global(&mut self) -> Result<Value, PickleError> {
        let (module, name) = (self.line()?, self.line()?);
        Ok(Value::Global(format!("{module}.{name}").into()))
    }

    /// What is made of values on the stack.
    fn compose(&mut self, code: u8) -> Option<Value> {
        Some(match code {
            b't' | b'l' | 0x91 => {
                let items = self.above_mark()?;
                self.items(items)
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.items(items)
            }
            b'd' => {
                let entries = pairs(&self.above_mark()?)?;
                self.dict(entries)
            }
            b'Q' => {
                let name = self.pop()?;
                self.persistent(name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                Value::Global(format!("{}.{}", module.as_text()?, name.as_text()?).into())
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)
            }
            0x92 => {
                let (_, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callee, arguments)
            }
            b'o' => {
                let mut items = self.above_mark()?;
                if items.is_empty() {
                    return None;
                }
                let callee = items.remove(0);
                let arguments = self.items(items);
                self.call(callee, arguments)
            }
            _ => return None,
        })
    }

    fn append(&mut self, code: u8) -> Option<()> {
        let added = if code == b'a' {
            vec![self.pop()?]
        } else {
            self.above_mark()?
        };
        match self.stack.last()? {
            Value::Items(id) => match &mut self.nodes[*id] {
                Node::Items(items) => items.extend(added),
                _ => return None,
            },
            // Of an object that was not made nothing is kept but its name.
            Value::Call(_) => {}
            _ => return None,
        }
        Some(())
    }

    fn set_items(&mut self, code: u8) -> Option<()> {
        let added = if code == b's' {
            pairs(&self.pop_many(2)?)?
        } else {
            pairs(&self.above_mark()?)?
        };
        match self.stack.last()? {
            Value::Dict(id) => match &mut self.nodes[*id] {
                Node::Entries(entries) => entries.extend(added),
                _ => return None,
            },
            Value::Call(_) => {}
            _ => return None,
        }
        Some(())
    }

    /// The state of the object below it, which is kept beside the call.
    fn set_state(&mut self) -> Option<()> {
        let new = self.pop()?;
        if let Some(Value::Call(id)) = self.stack.last()
            && let Node::Call { state, .. } = &mut self.nodes[*id]
        {
            *state = Some(new);
        }
        Some(())
    }

    fn node(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn items(&mut self, items: Vec<Value>) -> Value {
        Value::Items(self.node(Node::Items(items)))
    }

    fn dict(&mut self, entries: Vec<(Value, Value)>) -> Value {
        Value::Dict(self.node(Node::Entries(entries)))
    }

    fn persistent(&mut self, name: Value) -> Value {
        Value::Persistent(self.node(Node::Persistent(name)))
    }

    /// A call as a value. Some are harmless because they are made here: dictionaries by other names, and sets.
    fn call(&mut self, callee: Value, arguments: Value) -> Value {
        let name = match &callee {
            Value::Global(name) => &**name,
            _ => "",
        };
        match name {
            "collections.OrderedDict" | "collections.defaultdict" => {
                let entries = self.given_entries(&arguments).unwrap_or_default();
                return self.dict(entries);
            }
            "__builtin__.set" | "builtins.set" | "__builtin__.frozenset" | "builtins.frozenset" => {
                return self.first_item(&arguments).unwrap_or(arguments);
            }
            _ => {}
        }
        Value::Call(self.node(Node::Call {
            callee,
            arguments,
            state: None,
        }))
    }

    /// The list that a set is made of.
    fn first_item(&self, arguments: &Value) -> Option<Value> {
        let Value::Items(id) = arguments else {
            return None;
        };
        match &self.nodes[*id] {
            Node::Items(items) => items.first().cloned(),
            _ => None,
        }
    }

    /// The pairs that a dictionary by another name is made of, as old pickles have them.
    fn given_entries(&self, arguments: &Value) -> Option<Vec<(Value, Value)>> {
        let items = |value: &Value| match value {
            Value::Items(id) => match &self.nodes[*id] {
                Node::Items(items) => Some(items),
                _ => None,
            },
            _ => None,
        };
        let pair = |value: &Value| {
            let pair = items(value)?;
            Some((pair.first()?.clone(), pair.get(1)?.clone()))
        };
        items(items(arguments)?.last()?)?.iter().map(pair).collect()
    }

    fn pop(&mut self) -> Option<Value> {
        // A mark shields what lies below it.
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return None;
        }
        self.stack.pop()
    }

    fn pop_many(&mut self, count: usize) -> Option<Vec<Value>> {
        let start = self.stack.len().checked_sub(count)?;
        if self.marks.last().is_some_and(|&mark| mark > start) {
            return None;
        }
        Some(self.stack.split_off(start))
    }

    fn above_mark(&mut self) -> Option<Vec<Value>> {
        let mark = self.marks.pop()?;
        Some(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.check_left(N as u64)?;
        let mut taken = [0; N];
        self.input.read_exact(&mut taken)?;
        self.at += N as u64;
        Ok(taken)
    }

    fn take(&mut self, len: u64) -> Result<Vec<u8>, PickleError> {
        self.check_left(len)?;
        let mut taken = vec![0; len as usize];
        self.input.read_exact(&mut taken)?;
        self.at += len;
        Ok(taken)
    }

    fn skip(&mut self, len: u64) -> Result<(), PickleError> {
        self.check_left(len)?;
        self.input.seek_relative(len as i64)?;
        self.at += len;
        Ok(())
    }

    /// What is announced has to be there before anything is allocated for it.
    fn check_left(&self, len: u64) -> Result<(), PickleError> {
        if len <= self.len - self.at {
            Ok(())
        } else {
            Err(PickleError::Truncated { at: self.len })
        }
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let mut line = Vec::new();
        self.at += self.input.read_until(b'\n', &mut line)? as u64;
        match line.pop() {
            Some(b'\n') => Ok(String::from_utf8_lossy(&line).into_owned()),
            _ => Err(PickleError::Truncated { at: self.len }),
        }
    }
}

const KNOWN_BUILDERS: &[u8] = &[
    b'c', b'P', b'i', b']', 0x8f, b')', b'}', b'2', b'1', b'a', b'e', 0x90, b's', b'u', b'b', b't', 0x85,
    0x86, 0x87, b'l', 0x91, b'd', b'Q', 0x93, b'R', 0x81, 0x92, b'o',
];

fn pairs(values: &[Value]) -> Option<Vec<(Value, Value)>> {
    let (chunks, rest) = values.as_chunks::<2>();
    rest.is_empty().then(|| {
        chunks
            .iter()
            .map(|[key, value]| (key.clone(), value.clone()))
            .collect()
    })
}

fn little_endian(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut padded = [if is_negative { 0xFF } else { 0 }; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(padded))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dictionary_of_many_kinds() {
        // pickle.dumps({'a': [1, -2, 70000], 'b': (None, True, 1.5), 'c': {'d': 'é'}}, protocol=2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\x00eX\x01\x00\x00\x00bq\x03N\x88G?\xf8\x00\x00\x00\x00\x00\x00\x87q\x04X\x01\x00\x00\x00cq\x05}q\x06X\x01\x00\x00\x00dq\x07X\x02\x00\x00\x00\xc3\xa9q\x08su.";
        let pickle = read(bytes).unwrap();
        assert_eq!(pickle.num_bytes, bytes.len() as u64, "all of it");
        let entries = pickle.entries(&pickle.root).unwrap();
        let items = |i: usize| pickle.items(&entries[i].1).unwrap();
        let ints: Vec<_> = items(0).iter().map(Value::as_int).collect();
        assert_eq!(ints, [Some(1), Some(-2), Some(70_000)]);
        assert!(matches!(
            items(1),
            [Value::None, Value::Bool(true), Value::Float(1.5)]
        ));
        let mut texts = Vec::new();
        pickle.walk(&mut |path, value| {
            texts.extend(value.as_text().map(|text| format!("{path}={text}")));
            false
        });
        assert_eq!(texts, ["c.d=é"], "by its path");
    }

    #[test]
    fn calls_are_not_made() {
        // The classic: os.system('touch /tmp/owned').
        let pickle = read(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.").unwrap();
        let (name, arguments) = pickle.call(&pickle.root).unwrap();
        assert_eq!(name, "os.system", "a call stays a name");
        assert_eq!(
            arguments[0].as_text(),
            Some("touch /tmp/owned"),
            "and its arguments"
        );
    }

    #[test]
    fn lists_and_the_attributes_of_modules_are_walked() {
        // ({'a': 1}, Net() with _parameters = {'w': 2}, _modules = {'sub': {'x': 3}} and other = 4, 5)
        let text = |text: &str| {
            let mut bytes = vec![b'U', text.len() as u8];
            bytes.extend(text.as_bytes());
            bytes
        };
        let bytes = [
            b"(}(".to_vec(),
            text("a"),
            b"K\x01ucm\nNet\n)\x81}(".to_vec(),
            text("_parameters"),
            b"}(".to_vec(),
            text("w"),
            b"K\x02u".to_vec(),
            text("_modules"),
            b"}(".to_vec(),
            text("sub"),
            b"}(".to_vec(),
            text("x"),
            b"K\x03uu".to_vec(),
            text("other"),
            b"K\x04ubK\x05t.".to_vec(),
        ]
        .concat();
        let pickle = read(&bytes).unwrap();
        let mut ints = Vec::new();
        pickle.walk(&mut |path, value| {
            ints.extend(value.as_int().map(|int| format!("{path}={int}")));
            false
        });
        assert_eq!(ints, ["0.a=1", "1.w=2", "1.sub.x=3", "1.other=4"]);
    }

    #[test]
    fn an_index_leaves_arrays_in_the_file() {
        // [b'...', 7], with so many bytes as are not held.
        let num_bytes = MAX_INDEXED_BYTES as usize + 1;
        let mut bytes = b"\x80\x03](B".to_vec();
        bytes.extend((num_bytes as u32).to_le_bytes());
        bytes.extend((0..num_bytes).map(|i| i as u8));
        bytes.extend(b"K\x07e.");
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let pickle = index(&file).unwrap();
        let items = pickle.items(&pickle.root).unwrap();
        let Value::Stored {
            offset,
            num_bytes: len,
        } = items[0]
        else {
            panic!("it is held: {items:?}")
        };
        let mut stored = vec![0; len as usize];
        assert_eq!(
            crate::local_file::read_at(&file, &mut stored, offset).unwrap(),
            stored.len()
        );
        assert!(
            stored.iter().enumerate().all(|(i, &byte)| byte == i as u8),
            "the bytes of the array"
        );
        assert_eq!((stored.len(), items[1].as_int()), (num_bytes, Some(7)));
        assert!(
            matches!(read(&bytes).unwrap().root, Value::Items(_)),
            "or all of it in memory"
        );

        file.set_len(100).unwrap();
        assert!(
            matches!(index(&file), Err(PickleError::Truncated { at: 100 })),
            "cut off"
        );
    }

    #[test]
    fn depth_and_circles_end() {
        let mut nested = vec![b'N'];
        nested.extend(std::iter::repeat_n(0x85, 1 << 20));
        nested.push(b'.');
        drop(read(&nested).unwrap());
        // d = {}; d['a'] = d['b'] = d: twice as many ways to go at every level.
        let pickle = read(b"}q\x00(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00u.").unwrap();
        let mut count = 0;
        pickle.walk(&mut |_, _| {
            count += 1;
            false
        });
        assert!(count <= MAX_ENTRIES, "{count}");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Whatever it says, it comes back.
            let _ = read(&bytes);
        }

        #[test]
        fn no_program_does_harm(codes in proptest::collection::vec(0..KNOWN_BUILDERS.len() + 12, 0..60)) {
            let plain: &[&[u8]] = &[b"(", b"N", b"K\x05", b"X\x01\x00\x00\x00a", b"q\x00", b"h\x00", b"0", b"\x94", b"\x88", b"U\x01b", b"G\0\0\0\0\0\0\0\0", b"."];
            let mut bytes = Vec::new();
            for code in codes {
                match code.checked_sub(KNOWN_BUILDERS.len()) {
                    Some(i) => bytes.extend_from_slice(plain[i]),
                    None => bytes.push(KNOWN_BUILDERS[code]),
                }
                if matches!(bytes.last(), Some(b'c' | b'P' | b'i')) {
                    bytes.extend_from_slice(b"m\nn\n");
                }
            }
            bytes.push(b'.');
            if let Ok(pickle) = read(&bytes) {
                pickle.walk(&mut |_, _| false);
            }
        }
    }
}
