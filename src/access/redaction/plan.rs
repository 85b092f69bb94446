//! Rules as trees of keys and of field numbers, so that one pass over an event judges each field.

use std::collections::{HashMap, HashSet};

use super::rule::Rule;
use crate::clerk::schema::{HTTP_REQUEST, HTTP_REQUEST_KEYS, Kind, SCHEMA};

/// The rules for the events that fall under the same sealed sets.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names to remove at any depth.
    anywhere: HashSet<String>,
    /// Paths to remove, as a tree; the first node is the body's root.
    nodes: Vec<Node>,
    /// The paths for encoded messages, by field number; the first is `Event`.
    messages: Vec<Message>,
}

/// Keys of an object at one place.
type Node = HashMap<String, Mark>;

/// The treatment of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Remove,
    /// Look into it, with this node.
    Below(usize),
}

/// The treatment of a message's fields.
#[derive(Debug, Default)]
pub(super) struct Message {
    fields: HashMap<u32, Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Remove,
    /// Look into it, with this message of the plan.
    Message(usize),
    /// Look into a `google.protobuf.Struct`, with this node.
    Struct(Option<usize>),
}

impl Message {
    pub(super) fn action(&self, number: u32) -> Option<Action> {
        self.fields.get(&number).copied()
    }
}

impl Plan {
    pub(super) fn new(rules: impl Iterator<Item = Rule>) -> Self {
        let mut plan = Self {
            nodes: vec![Node::new()],
            ..Self::default()
        };
        for rule in rules {
            match rule {
                Rule::Anywhere(name) => {
                    plan.anywhere.insert(name);
                }
                Rule::At(path) => plan.add_path(&path),
            }
        }
        plan.compile_event();
        plan
    }

    fn add_path(&mut self, path: &[String]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut at = 0;
        for key in parents {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                return;
            };
            match *node.entry(key.clone()).or_insert(Mark::Below(next)) {
                // A rule removes the parent already.
                Mark::Remove => return,
                Mark::Below(below) => at = below,
            }
            if at == next {
                self.nodes.push(Node::new());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.insert(last.clone(), Mark::Remove);
        }
    }

    /// Whether nothing is to be removed.
    pub(super) fn is_empty(&self) -> bool {
        self.anywhere.is_empty() && self.nodes.iter().all(HashMap::is_empty)
    }

    /// The treatment of a key at a node. Without a node, no path leads to the key.
    pub(super) fn mark(&self, node: Option<usize>, key: &str) -> Option<Mark> {
        if self.anywhere.contains(key) {
            return Some(Mark::Remove);
        }
        self.nodes.get(node?)?.get(key).copied()
    }

    /// Whether a rule applies at any depth, and so in places that no path leads to.
    pub(super) fn looks_everywhere(&self) -> bool {
        !self.anywhere.is_empty()
    }

    /// Whether every encoded event stays as it is.
    pub(super) fn spares_events(&self) -> bool {
        self.message(0).fields.is_empty()
    }

    pub(super) fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    fn compile_event(&mut self) {
        self.messages.push(Message::default());
        let mut fields = HashMap::new();
        if let Some(action) = self.http_request() {
            fields.insert(HTTP_REQUEST, action);
        }
        let data = self.mark(Some(0), "data");
        let mut compiled = HashMap::new();
        for (number, kind) in SCHEMA.data_kinds() {
            if let Some(action) = self.action(data, kind, &mut compiled) {
                fields.insert(number, action);
            }
        }
        self.messages[0] = Message { fields };
    }

    fn http_request(&mut self) -> Option<Action> {
        let attributes = match self.mark(Some(0), "event_attributes") {
            Some(Mark::Remove) => return Some(Action::Remove),
            Some(Mark::Below(node)) => Some(node),
            None => None,
        };
        let request = match self.mark(attributes, "http_request") {
            Some(Mark::Remove) => return Some(Action::Remove),
            Some(Mark::Below(node)) => Some(node),
            None => None,
        };
        let marked = HTTP_REQUEST_KEYS
            .into_iter()
            .filter(|(_, key)| self.mark(request, key) == Some(Mark::Remove));
        let fields: HashMap<u32, Action> =
            marked.map(|(number, _)| (number, Action::Remove)).collect();
        if fields.is_empty() {
            return None;
        }
        self.messages.push(Message { fields });
        Some(Action::Message(self.messages.len() - 1))
    }

    /// The action that a mark means for a field of this kind.
    fn action(
        &mut self,
        mark: Option<Mark>,
        kind: Kind,
        compiled: &mut HashMap<(usize, Option<usize>), usize>,
    ) -> Option<Action> {
        let node = match mark {
            Some(Mark::Remove) => return Some(Action::Remove),
            Some(Mark::Below(node)) => Some(node),
            None if self.looks_everywhere() => None,
            None => return None,
        };
        match kind {
            Kind::Message(shape) => {
                let message = self.shape(shape, node, compiled);
                let is_idle = self.message(message).fields.is_empty();
                (!is_idle).then_some(Action::Message(message))
            }
            Kind::Struct => Some(Action::Struct(node)),
            Kind::String | Kind::Bool | Kind::Int64 | Kind::Double | Kind::Timestamp => None,
        }
    }

    /// The index of the message for a shape at a node. Clerk's shapes don't contain themselves;
    /// one that did would be compiled once.
    fn shape(
        &mut self,
        shape: usize,
        node: Option<usize>,
        compiled: &mut HashMap<(usize, Option<usize>), usize>,
    ) -> usize {
        if let Some(index) = compiled.get(&(shape, node)) {
            return *index;
        }
        let index = self.messages.len();
        self.messages.push(Message::default());
        compiled.insert((shape, node), index);
        let mut fields = HashMap::new();
        for (key, field) in SCHEMA.shape(shape).by_key() {
            let mark = self.mark(node, key);
            if let Some(action) = self.action(mark, field.kind, compiled) {
                fields.insert(field.number, action);
            }
        }
        self.messages[index] = Message { fields };
        index
    }
}
