//! Compiles `proto/` with protox, so that a build needs no `protoc`.
//!
//! Three things come out of one descriptor set: prost's messages and tonic's
//! client; the descriptor set itself, which reflection serves and the JSON decoding
//! reads; and the server trait of the unary calls. `Subscribe` is not in it: it answers
//! with frames that are encoded already, several at a time (`src/grpc/subscribe.rs`).

use std::error::Error;
use std::path::{Path, PathBuf};

use tonic_prost_build::manual;

const PROTO_ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(proto_files()?)?;
    std::fs::write(
        out_dir.join("clerkcast_descriptor.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;

    let descriptors = compiler.file_descriptor_set();
    let services = descriptors.file.iter().flat_map(|file| {
        file.service
            .iter()
            .map(|service| server(file.package(), service))
    });
    let services: Vec<manual::Service> = services.collect();
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;

    let server_dir = out_dir.join("server");
    std::fs::create_dir_all(&server_dir)?;
    manual::Builder::new()
        .build_client(false)
        .out_dir(server_dir)
        .compile(&services);
    Ok(())
}

fn proto_files() -> std::io::Result<Vec<PathBuf>> {
    let package_dir = Path::new(PROTO_ROOT).join("clerkcast/v1");
    let mut files: Vec<PathBuf> = std::fs::read_dir(package_dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    Ok(files)
}

/// The server side of the unary calls of `service`.
fn server(package: &str, service: &prost_types::ServiceDescriptorProto) -> manual::Service {
    let message = |full_name: &str| {
        let name = full_name.rsplit('.').next().unwrap_or(full_name);
        format!("crate::proto::{name}")
    };
    let mut builder = manual::Service::builder()
        .name(service.name())
        .package(package);
    for method in service
        .method
        .iter()
        .filter(|method| !method.server_streaming())
    {
        let described = manual::Method::builder()
            .name(snake_case(method.name()))
            .route_name(method.name())
            .input_type(message(method.input_type()))
            .output_type(message(method.output_type()))
            .codec_path("tonic_prost::ProstCodec");
        builder = builder.method(described.build());
    }
    builder.build()
}

fn snake_case(camel: &str) -> String {
    let mut snake = String::new();
    for character in camel.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
