//! `clerkcast copy`: a log into another one, into a file, or from a file.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::nats::NatsArgs;
use super::retention::RetentionArgs;
use crate::app::{self, ArchiveFormat, Copied, FileConfig, Place};
use crate::ops::{self, LogFormat};

/// A line about so often, for whoever waits.
const PROGRESS_EVENTS: u64 = 100_000;

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// Copy from: a data directory (whose gateway does not run), `nats` (the stream of --nats-url),
    /// a file that ends in .ndjson or .binpb, or `-` for NDJSON on standard input
    from: String,

    /// Copy to: the same; a file must not be there yet, and `-` is standard output
    to: String,

    /// Configuration file (TOML) of `serve`, for its keys about NATS and retention
    #[arg(long, env = "CLERKCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    retention: RetentionArgs,

    #[command(flatten)]
    nats: NatsArgs,
}

pub(super) async fn run(args: CopyArgs) -> Result<(), Failure> {
    ops::init(LogFormat::default(), "warn").map_err(Failure::Usage)?;
    if args.from == args.to && args.from != "-" {
        return Err(Failure::Usage(format!(
            "{} is both where to copy from and where to copy to",
            args.from
        )));
    }
    let file = match &args.config {
        Some(path) => FileConfig::read(path).map_err(Failure::usage)?,
        None => FileConfig::default(),
    };
    let from = args.place(&args.from, &file)?;
    let to = args.place(&args.to, &file)?;
    let mut told = 0;
    let progress = |copied: Copied| {
        let steps = copied.events / PROGRESS_EVENTS;
        if steps > told {
            told = steps;
            eprintln!("clerkcast: {} events copied", copied.events);
        }
    };
    let copied = app::copy(from, to, progress).await;
    let Copied { events, duplicates } = copied.map_err(Failure::failed)?;
    eprintln!("clerkcast: {events} events copied, {duplicates} were there already");
    Ok(())
}

impl CopyArgs {
    fn place(&self, text: &str, file: &FileConfig) -> Result<Place, Failure> {
        if text == "nats" {
            let retention = self.retention.check(file)?;
            let stream = self.nats.named_stream(file, &retention)?;
            return Ok(Place::Stream(Box::new(stream)));
        }
        let path = PathBuf::from(text);
        if text == "-" {
            return Ok(Place::File(path, ArchiveFormat::Ndjson));
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ndjson" | "jsonl") => Ok(Place::File(path, ArchiveFormat::Ndjson)),
            Some("binpb") => Ok(Place::File(path, ArchiveFormat::Protobuf)),
            Some(_) if !Path::new(text).is_dir() => Err(Failure::Usage(format!(
                "{text}: write a data directory, `nats`, a file that ends in .ndjson or .binpb, or `-`"
            ))),
            _ => Ok(Place::DataDir(path)),
        }
    }
}
