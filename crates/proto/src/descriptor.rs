//! The client API's messages as data: what a transcoder needs to know of a field, in the order of declaration.
//!
//! A table in the program's read-only memory rather than a descriptor set that is decoded at the start: looking a field up
//! costs nothing but the look. No logic lives here.

/// A message.
#[derive(Debug)]
pub struct MessageDescriptor {
    /// With its package in front.
    pub full_name: &'static str,
    /// In the order of declaration, which is the order of their numbers.
    pub fields: &'static [FieldDescriptor],
}

/// A field of a message.
#[derive(Debug)]
pub struct FieldDescriptor {
    /// On the wire.
    pub number: u32,
    /// As declared.
    pub name: &'static str,
    /// In camel case, as JSON has it.
    pub json_name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether it may occur many times.
    pub repeated: bool,
    /// The full name of the group of fields of which at most one is set, if it belongs to one.
    pub oneof: Option<&'static str>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum FieldKind {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// One of named numbers.
    Enum(&'static EnumDescriptor),
    /// A message.
    Message(&'static MessageDescriptor),
}

/// Named numbers.
#[derive(Debug)]
pub struct EnumDescriptor {
    /// Number and name.
    pub values: &'static [(i32, &'static str)],
}

include!(concat!(env!("OUT_DIR"), "/descriptors.rs"));
