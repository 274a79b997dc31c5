//! Generates the messages, the client stubs and the descriptor table without a system `protoc`.

use std::fmt::Write;

const FILES: [&str; 6] = ["mvcc.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "internal.proto"];

/// The packages of the client API, whose messages the descriptor table names.
const API_PACKAGES: [&str; 5] = ["mvccpb", "authpb", "etcdserverpb", "v3lockpb", "v3electionpb"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut table = String::new();
    for file in descriptors.file.iter().filter(|file| API_PACKAGES.contains(&file.package())) {
        for message in &file.message_type {
            put_message(&mut table, file.package(), message)?;
        }
        for enumeration in &file.enum_type {
            put_enum(&mut table, file.package(), enumeration)?;
        }
    }
    writeln!(table, "/// Request and response of a method by its gRPC path.")?;
    writeln!(
        table,
        "pub fn method(path: &str) -> Option<(&'static MessageDescriptor, &'static MessageDescriptor)> {{"
    )?;
    writeln!(table, "match path {{")?;
    for file in descriptors.file.iter().filter(|file| API_PACKAGES.contains(&file.package())) {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let (input, output) = (constant(method.input_type()), constant(method.output_type()));
                writeln!(table, "{path:?} => Some((&{input}, &{output})),")?;
            }
        }
    }
    writeln!(table, "_ => None }} }}")?;
    std::fs::write(std::path::Path::new(&std::env::var("OUT_DIR")?).join("descriptors.rs"), table)?;

    let mut prost = prost_build::Config::new();
    prost.bytes(["."]);
    // Rare and large: every other command would carry its size along.
    prost.boxed(".quoratepb.Command.operation.v2_change");
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(true)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}

/// The name of the static of a message or an enum, from its full name.
fn constant(full_name: &str) -> String {
    full_name.trim_start_matches('.').replace('.', "_").to_uppercase()
}

fn put_message(table: &mut String, scope: &str, message: &prost_types::DescriptorProto) -> std::fmt::Result {
    use prost_types::field_descriptor_proto::{Label, Type};
    let full_name = format!("{scope}.{}", message.name());
    for inner in &message.nested_type {
        put_message(table, &full_name, inner)?;
    }
    for inner in &message.enum_type {
        put_enum(table, &full_name, inner)?;
    }
    writeln!(table, "/// `{full_name}`.")?;
    writeln!(table, "pub static {}: MessageDescriptor = MessageDescriptor {{", constant(&full_name))?;
    writeln!(table, "full_name: {full_name:?}, fields: &[")?;
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Bool => "FieldKind::Bool".to_owned(),
            Type::Int32 => "FieldKind::Int32".to_owned(),
            Type::Int64 => "FieldKind::Int64".to_owned(),
            Type::Uint32 => "FieldKind::Uint32".to_owned(),
            Type::Uint64 => "FieldKind::Uint64".to_owned(),
            Type::String => "FieldKind::String".to_owned(),
            Type::Bytes => "FieldKind::Bytes".to_owned(),
            Type::Enum => format!("FieldKind::Enum(&{})", constant(field.type_name())),
            Type::Message => format!("FieldKind::Message(&{})", constant(field.type_name())),
            other => panic!("{full_name}.{}: the descriptor table knows no {other:?}", field.name()),
        };
        let oneof = field.oneof_index.map(|index| {
            let name = message.oneof_decl[usize::try_from(index).expect("an index")].name();
            format!("{full_name}.{name}")
        });
        writeln!(
            table,
            "FieldDescriptor {{ number: {}, name: {:?}, json_name: {:?}, kind: {kind}, repeated: {}, oneof: {oneof:?} }},",
            field.number(),
            field.name(),
            field.json_name(),
            field.label() == Label::Repeated,
        )?;
    }
    writeln!(table, "] }};")
}

fn put_enum(table: &mut String, scope: &str, enumeration: &prost_types::EnumDescriptorProto) -> std::fmt::Result {
    let full_name = format!("{scope}.{}", enumeration.name());
    writeln!(table, "/// `{full_name}`.")?;
    writeln!(table, "pub static {}: EnumDescriptor = EnumDescriptor {{ values: &[", constant(&full_name))?;
    for value in &enumeration.value {
        writeln!(table, "({}, {:?}),", value.number(), value.name())?;
    }
    writeln!(table, "] }};")
}
