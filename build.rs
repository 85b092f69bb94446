//! Compiles `proto/` with protox, so that a build needs no `protoc`.
//!
//! From one descriptor set come prost's messages and tonic's clients, a file per package;
//! the descriptor set itself, which reflection serves and the JSON decoding reads; the
//! server trait of each service, without the methods of [`OWN_BODY`]; and the names and
//! numbers of the proto files that the code needs, as constants (`names.rs`).
//!
//! It also records how SQLite is compiled, and of which commit the build is.

#[path = "build/commit.rs"]
mod commit;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_types::{
    DescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
};
use tonic_prost_build::manual;

const PROTO_ROOT: &str = "proto";
/// What the names of our packages begin with; the rest of a name is its path in `proto`.
const PACKAGE_ROOT: &str = "clerkcast.";

/// Methods that `src/doors/grpc` answers with a body of its own: frames that are encoded
/// already, several at a time.
const OWN_BODY: &[&str] = &[
    "clerkcast.v1.EventService/Subscribe",
    "clerkcast.v1.SubscriptionService/Receive",
];

/// Fields that are written or looked for without the generated code.
const FIELDS: &[(&str, &[&str])] = &[
    ("clerkcast.v1.SubscribeResponse", &["cursor", "event"]),
    (
        "clerkcast.v1.Event",
        &["receive_time", "http_request", "payload_json"],
    ),
    ("clerkcast.v1.HttpRequest", &["client_ip", "user_agent"]),
    ("clerkcast.v1.SubscribeRequest", &["filter"]),
    ("clerkcast.v1.ListEventsRequest", &["filter"]),
    ("clerkcast.v1.CreateSubscriptionRequest", &["subscription"]),
    ("clerkcast.v1.Subscription", &["filter"]),
    ("clerkcast.v1.UpdateSubscriptionRequest", &["filter"]),
    ("clerkcast.v1.ReceiveResponse", &["delivery"]),
    ("clerkcast.v1.Delivery", &["event"]),
    (
        "clerkcast.v1.EventFilter",
        &[
            "types",
            "exclude_types",
            "user_ids",
            "organization_ids",
            "session_ids",
            "sources",
            "instance_ids",
        ],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(proto_files(Path::new(PROTO_ROOT))?)?;
    std::fs::write(
        out_dir.join("clerkcast_descriptor.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;

    let descriptors = compiler.file_descriptor_set();
    let ours = Ours::of(&descriptors.file);
    ours.check_own_bodies()?;
    std::fs::write(out_dir.join("names.rs"), ours.names()?)?;
    let servers = ours.servers()?;
    let server_dir = out_dir.join("server");
    std::fs::create_dir_all(&server_dir)?;
    manual::Builder::new()
        .build_client(false)
        .out_dir(server_dir)
        .compile(&servers);

    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;
    record_fdatasync();
    record_commit()
}

/// Sets `sqlite_fdatasync` if SQLite is compiled to call fdatasync. `.cargo/config.toml` sees
/// to it, but `cargo install` from a registry does not read that file.
fn record_fdatasync() {
    println!("cargo::rustc-check-cfg=cfg(sqlite_fdatasync)");
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    let mut flags = flags.split_whitespace();
    if flags.any(|flag| matches!(flag, "-DHAVE_FDATASYNC" | "-DHAVE_FDATASYNC=1")) {
        println!("cargo::rustc-cfg=sqlite_fdatasync");
    }
}

/// Sets `CLERKCAST_BUILD_COMMIT` to the commit: `CLERKCAST_COMMIT` where that is set, else what
/// git knows in a release build, else `unknown`.
fn record_commit() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build/commit.rs");
    println!("cargo::rerun-if-env-changed=CLERKCAST_COMMIT");
    let given = std::env::var("CLERKCAST_COMMIT").ok();
    let package = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let is_release = std::env::var("PROFILE")? == "release";
    let found = commit::find(given.as_deref(), &package, is_release);
    for file in found.files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let commit = found.commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=CLERKCAST_BUILD_COMMIT={commit}");
    Ok(())
}

/// All `.proto` files below `directory`, sorted.
fn proto_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The files under `proto/`, without Google's that they import.
struct Ours<'a> {
    files: Vec<&'a FileDescriptorProto>,
    packages: BTreeSet<&'a str>,
}

impl<'a> Ours<'a> {
    fn of(all: &'a [FileDescriptorProto]) -> Self {
        let ours = |file: &&FileDescriptorProto| file.package().starts_with(PACKAGE_ROOT);
        let files: Vec<_> = all.iter().filter(ours).collect();
        let packages = files.iter().map(|file| file.package()).collect();
        Self { files, packages }
    }

    /// Each service with its package.
    fn services(&self) -> impl Iterator<Item = (&'a str, &'a ServiceDescriptorProto)> {
        let files = self.files.iter();
        files.flat_map(|file| file.service.iter().map(|service| (file.package(), service)))
    }

    /// Each method that streams must be in [`OWN_BODY`], and each of those must exist.
    fn check_own_bodies(&self) -> Result<(), String> {
        let mut missing: BTreeSet<&str> = OWN_BODY.iter().copied().collect();
        for (package, service) in self.services() {
            for method in &service.method {
                let name = method_name(package, service, method);
                let streams = method.server_streaming() || method.client_streaming();
                if !missing.remove(name.as_str()) && streams {
                    return Err(format!(
                        "{name} streams: give it a body in src/doors/grpc and list it in OWN_BODY"
                    ));
                }
            }
        }
        match missing.first() {
            Some(name) => Err(format!(
                "OWN_BODY lists {name}, which no file under {PROTO_ROOT}/ defines"
            )),
            None => Ok(()),
        }
    }

    /// The server side of each service, without the methods that have a body of their own.
    fn servers(&self) -> Result<Vec<manual::Service>, String> {
        let mut servers = Vec::new();
        for (package, service) in self.services() {
            let mut builder = manual::Service::builder()
                .name(service.name())
                .package(package);
            for method in &service.method {
                if OWN_BODY.contains(&method_name(package, service, method).as_str()) {
                    continue;
                }
                let described = manual::Method::builder()
                    .name(snake_case(method.name()))
                    .route_name(method.name())
                    .input_type(self.rust_path(method.input_type())?)
                    .output_type(self.rust_path(method.output_type())?)
                    .codec_path("tonic_prost::ProstCodec");
                builder = builder.method(described.build());
            }
            servers.push(builder.build());
        }
        Ok(servers)
    }

    /// The modules `service`, `method` and `field`.
    fn names(&self) -> Result<String, Box<dyn Error>> {
        let (mut names, mut paths) = (String::new(), String::new());
        for (package, service) in self.services() {
            let name = service.name();
            let module = snake_case(name);
            let constant = module.to_uppercase();
            writeln!(
                names,
                "pub const {constant}: &str = {:?};",
                format!("{package}.{name}")
            )?;
            writeln!(paths, "pub mod {module} {{")?;
            for method in &service.method {
                let constant = snake_case(method.name()).to_uppercase();
                let path = format!("/{}", method_name(package, service, method));
                writeln!(paths, "pub const {constant}: &str = {path:?};")?;
            }
            writeln!(paths, "}}")?;
        }
        let mut numbers = String::new();
        for (message, fields) in FIELDS {
            let described = self.message(message);
            let described = described.ok_or_else(|| format!("FIELDS: there is no {message}"))?;
            writeln!(numbers, "pub mod {} {{", snake_case(described.name()))?;
            for name in *fields {
                let mut all = described.field.iter();
                let field = all.find(|field| field.name() == *name);
                let field = field.ok_or_else(|| format!("FIELDS: {message} has no {name}"))?;
                let constant = name.to_uppercase();
                writeln!(numbers, "pub const {constant}: u32 = {};", field.number())?;
            }
            writeln!(numbers, "}}")?;
        }
        Ok(format!(
            "/// The services' full names, as gRPC, reflection and health know them.\n\
             pub mod service {{\n{names}}}\n\
             /// The paths of each service's methods.\n\
             pub mod method {{\n{paths}}}\n\
             /// Field numbers of the messages that are written or read field by field.\n\
             pub mod field {{\n{numbers}}}\n"
        ))
    }

    fn message(&self, full_name: &str) -> Option<&'a DescriptorProto> {
        let (package, name) = full_name.rsplit_once('.')?;
        let files = self.files.iter().filter(|file| file.package() == package);
        let mut messages = files.flat_map(|file| &file.message_type);
        messages.find(|message| message.name() == name)
    }

    /// The path of the type that prost makes of a message of ours.
    fn rust_path(&self, message: &str) -> Result<String, String> {
        let message = message.trim_start_matches('.');
        let known = message
            .rsplit_once('.')
            .filter(|(package, _)| self.packages.contains(package));
        let (package, name) = known.ok_or_else(|| {
            format!("{message} is not a message of a package under {PROTO_ROOT}/")
        })?;
        let module = package.strip_prefix(PACKAGE_ROOT).unwrap_or(package);
        let module = module.replace('.', "::");
        Ok(format!("crate::proto::{module}::{name}"))
    }
}

/// As `OWN_BODY` and gRPC's paths have it.
fn method_name(
    package: &str,
    service: &ServiceDescriptorProto,
    method: &MethodDescriptorProto,
) -> String {
    format!("{package}.{}/{}", service.name(), method.name())
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
