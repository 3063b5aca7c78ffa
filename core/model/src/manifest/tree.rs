//! What both forms of a manifest become before it is known what it means.

/// A value, with a number of its own by which its form finds its place again.
#[derive(Debug)]
pub(super) struct Node {
    pub at: usize,
    pub what: What,
}

/// Kinds of values. Scalars are as they are written: no number is made of `1.10`.
#[derive(Debug)]
pub(super) enum What {
    /// Nothing, or one of YAML's words for it; how it is written.
    Null(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map, numbered like nodes are.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub at: usize,
    pub text: String,
}
