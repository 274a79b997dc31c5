//! As much of `protoc` as a Rust build script asks for, so that no machine needs protoc to run the tests: the
//! published client compiles its .proto files when it is built.
//!
//! It knows `-o FILE`, `-I DIR` and files, writes a descriptor set with imports and comments, and no other output.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut output, mut includes, mut files) = (None, Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--version" => {
                println!("libprotoc 31.1");
                return ExitCode::SUCCESS;
            }
            "--include_imports" | "--include_source_info" => {}
            "-o" => output = arguments.next(),
            "-I" => includes.extend(arguments.next()),
            path if !path.starts_with('-') => files.push(argument),
            unknown => {
                eprintln!("{unknown}: not known here");
                return ExitCode::FAILURE;
            }
        }
    }
    let Some(output) = output else {
        eprintln!("no -o FILE");
        return ExitCode::FAILURE;
    };
    let compiled = protox::Compiler::new(includes).and_then(|mut compiler| {
        compiler.include_imports(true).include_source_info(true).open_files(files)?;
        Ok(compiler.encode_file_descriptor_set())
    });
    match compiled {
        Ok(set) => match std::fs::write(&output, set) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{output}: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
