//! The parsed page: nodes in one vector, linked by number, so that no drop or walk recurses.

use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use html5ever::interface::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::StrTendril;
use html5ever::{Attribute, LocalName, QualName, local_name};

/// Elements nested deeper than this are refused; browsers stop at 512.
const MAX_DEPTH: u32 = 1024;

/// More nodes than this are refused: 4 million, some 400 MiB.
const MAX_NODES: usize = 4_000_000;

/// What the walk needs to know of a node.
pub(super) enum Node {
    Text(StrTendril),
    Element { name: LocalName, hidden: bool },
    Other,
}

#[derive(Clone, Copy, Default)]
struct Links {
    parent: Option<u32>,
    first_child: Option<u32>,
    last_child: Option<u32>,
    previous: Option<u32>,
    next: Option<u32>,
    depth: u32,
}

/// A parsed page.
#[derive(Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    links: Vec<Links>,
    names: Vec<Option<Box<QualName>>>,
}

impl Tree {
    pub(super) const ROOT: usize = 0;

    pub(super) fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    pub(super) fn first_child(&self, node: usize) -> Option<usize> {
        self.links[node].first_child.map(|node| node as usize)
    }

    pub(super) fn next_sibling(&self, node: usize) -> Option<usize> {
        self.links[node].next.map(|node| node as usize)
    }

    pub(super) fn parent(&self, node: usize) -> Option<usize> {
        self.links[node].parent.map(|node| node as usize)
    }

    fn add(&mut self, node: Node, name: Option<QualName>) -> u32 {
        let number = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(node);
        self.links.push(Links::default());
        self.names.push(name.map(Box::new));
        number
    }

    fn link(&mut self, node: u32) -> &mut Links {
        &mut self.links[node as usize]
    }

    fn detach(&mut self, node: u32) {
        let Links { parent, previous, next, .. } = *self.link(node);
        match previous {
            Some(previous) => self.link(previous).next = next,
            None => {
                if let Some(parent) = parent {
                    self.link(parent).first_child = next;
                }
            }
        }
        match next {
            Some(next) => self.link(next).previous = previous,
            None => {
                if let Some(parent) = parent {
                    self.link(parent).last_child = previous;
                }
            }
        }
        let links = self.link(node);
        (links.parent, links.previous, links.next) = (None, None, None);
    }

    /// Puts `node` under `parent`, before `next` or last.
    fn attach(&mut self, parent: u32, node: u32, next: Option<u32>) {
        self.detach(node);
        let previous = match next {
            Some(next) => self.link(next).previous,
            None => self.link(parent).last_child,
        };
        let depth = self.link(parent).depth + 1;
        let links = self.link(node);
        (links.parent, links.previous, links.next) = (Some(parent), previous, next);
        links.depth = depth;
        match previous {
            Some(previous) => self.link(previous).next = Some(node),
            None => self.link(parent).first_child = Some(node),
        }
        match next {
            Some(next) => self.link(next).previous = Some(node),
            None => self.link(parent).last_child = Some(node),
        }
    }

    fn insert(&mut self, parent: u32, child: NodeOrText<u32>, next: Option<u32>) {
        let node = match child {
            NodeOrText::AppendNode(node) => node,
            NodeOrText::AppendText(text) => {
                let previous = match next {
                    Some(next) => self.link(next).previous,
                    None => self.link(parent).last_child,
                };
                if let Some(Node::Text(before)) = previous.map(|n| &mut self.nodes[n as usize]) {
                    before.push_tendril(&text);
                    return;
                }
                self.add(Node::Text(text), None)
            }
        };
        self.attach(parent, node, next);
    }
}

/// Builds the tree, and says when it has grown too deep or too large.
pub(super) struct Sink {
    tree: RefCell<Tree>,
    pub(super) overgrown: Rc<Cell<bool>>,
}

impl Default for Sink {
    fn default() -> Self {
        let mut tree = Tree::default();
        tree.add(Node::Other, None);
        Self { tree: RefCell::new(tree), overgrown: Rc::default() }
    }
}

impl Sink {
    fn insert(&self, parent: u32, child: NodeOrText<u32>, next: Option<u32>) {
        let mut tree = self.tree.borrow_mut();
        tree.insert(parent, child, next);
        if tree.link(parent).depth >= MAX_DEPTH || tree.nodes.len() > MAX_NODES {
            self.overgrown.set(true);
        }
    }

    fn parent(&self, node: u32) -> Option<u32> {
        self.tree.borrow_mut().link(node).parent
    }
}

impl TreeSink for Sink {
    type Handle = u32;
    type Output = Tree;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Tree {
        self.tree.into_inner()
    }

    fn parse_error(&self, _message: Cow<'static, str>) {}

    fn get_document(&self) -> u32 {
        0
    }

    fn elem_name<'a>(&'a self, target: &'a u32) -> Ref<'a, QualName> {
        Ref::map(self.tree.borrow(), |tree| {
            let name = tree.names[*target as usize].as_deref();
            name.expect("the parser asks for the names of elements only")
        })
    }

    fn create_element(&self, name: QualName, attrs: Vec<Attribute>, _: ElementFlags) -> u32 {
        let hidden = attrs.iter().any(|attr| attr.name.local == local_name!("hidden"));
        let element = Node::Element { name: name.local.clone(), hidden };
        self.tree.borrow_mut().add(element, Some(name))
    }

    fn create_comment(&self, _text: StrTendril) -> u32 {
        self.tree.borrow_mut().add(Node::Other, None)
    }

    fn create_pi(&self, _target: StrTendril, _data: StrTendril) -> u32 {
        self.tree.borrow_mut().add(Node::Other, None)
    }

    fn append(&self, parent: &u32, child: NodeOrText<u32>) {
        self.insert(*parent, child, None);
    }

    fn append_based_on_parent_node(&self, element: &u32, before: &u32, child: NodeOrText<u32>) {
        match self.parent(*element) {
            Some(parent) => self.insert(parent, child, Some(*element)),
            None => self.insert(*before, child, None),
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &u32) -> u32 {
        // A template's content is never shown, so it may stay where it is.
        *target
    }

    fn same_node(&self, x: &u32, y: &u32) -> bool {
        x == y
    }

    fn set_quirks_mode(&self, _mode: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &u32, child: NodeOrText<u32>) {
        if let Some(parent) = self.parent(*sibling) {
            self.insert(parent, child, Some(*sibling));
        }
    }

    fn add_attrs_if_missing(&self, _target: &u32, _attrs: Vec<Attribute>) {}

    fn remove_from_parent(&self, target: &u32) {
        self.tree.borrow_mut().detach(*target);
    }

    fn reparent_children(&self, node: &u32, new_parent: &u32) {
        let mut tree = self.tree.borrow_mut();
        while let Some(child) = tree.link(*node).first_child {
            tree.attach(*new_parent, child, None);
        }
    }
}
