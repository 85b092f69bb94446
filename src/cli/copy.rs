//! `clerkcast copy`: a log into another one, into a file, or from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;

use super::failure::Failure;
use super::options::{Loaded, LogArgs, Settings, check_stream, refusal};
use super::output::note;
use crate::app::file::Environment;
use crate::app::{LogConfig, open_embedded, open_log};
use crate::copy::{self, CopyReport, Format as ArchiveFormat, Source, Target};
use crate::log::jetstream::{self, Missing};
use crate::log::sqlite::{self, SqliteLog};
use crate::log::{Log, Metrics};
use crate::telemetry::{self, Level, LogFormat};

/// Interval between two lines of progress.
const PROGRESS_EVENTS: u64 = 100_000;

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// Copy from: a data directory (its gateway must be stopped), `nats` (the stream of --nats-url),
    /// a file that ends in .ndjson or .binpb, or `-` for NDJSON on standard input
    from: String,

    /// Copy to: the same; the file must not exist, and `-` is standard output
    to: String,

    /// Configuration file (TOML) of `serve`, for its keys about NATS and retention
    #[arg(long, env = "CLERKCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    log: LogArgs,
}

pub(super) async fn run(args: CopyArgs) -> Result<(), Failure> {
    let level = "warn".parse::<Level>().map_err(Failure::Usage)?;
    telemetry::init(LogFormat::default(), &level).map_err(Failure::Usage)?;
    if args.from == args.to && args.from != "-" {
        return Err(Failure::Usage(format!(
            "{} is both where to copy from and where to copy to",
            args.from
        )));
    }
    let given = args.log.given.clone();
    let loaded = Loaded::read(given, args.config.clone(), Environment::OfProcess);
    let settings = loaded.map_err(refusal)?.settings;
    let from = place(&args.from, &settings)?;
    let to = place(&args.to, &settings)?;
    let mut reported_steps = 0;
    let progress = |copied: CopyReport| {
        let steps = copied.events / PROGRESS_EVENTS;
        if steps > reported_steps {
            reported_steps = steps;
            note(format_args!("{} events copied", copied.events));
        }
    };
    let source = open_source(from).await?;
    let target = open_target(to).await?;
    let copied = copy::copy(source, target, progress).await;
    let CopyReport {
        events,
        duplicates,
        retired_ids,
    } = copied.map_err(Failure::failed)?;
    note(format_args!(
        "{events} events copied, {duplicates} were there already"
    ));
    if retired_ids > 0 {
        note(format_args!(
            "{retired_ids} ids of removed events are remembered"
        ));
    }
    Ok(())
}

/// Where to copy from, or to.
enum Place {
    DataDir(PathBuf),
    Stream(Box<jetstream::Config>),
    File(PathBuf, ArchiveFormat),
}

async fn open_source(place: Place) -> Result<Source, Failure> {
    match place {
        Place::File(path, format) => Source::file(path, format).map_err(Failure::failed),
        Place::DataDir(data_dir) if !sqlite::exists(&data_dir) => Err(Failure::Failed(format!(
            "{}: there is no log in this directory",
            data_dir.display()
        ))),
        Place::DataDir(data_dir) => Ok(Source::embedded_log(open_directory(data_dir)?)),
        Place::Stream(config) => {
            let config = jetstream::Config {
                missing: Missing::Refuse,
                ..*config
            };
            Ok(Source::stream(open_stream(config).await?))
        }
    }
}

async fn open_target(place: Place) -> Result<Target, Failure> {
    match place {
        Place::File(path, format) => Target::file(path, format).map_err(Failure::failed),
        Place::DataDir(data_dir) => Ok(Target::embedded_log(open_directory(data_dir)?)),
        Place::Stream(config) => Ok(Target::stream(open_stream(*config).await?)),
    }
}

/// Opens a log without retention, which only the gateway applies.
fn open_directory(data_dir: PathBuf) -> Result<Arc<SqliteLog>, Failure> {
    let config = sqlite::Config {
        data_dir,
        retain_for: None,
        retain_bytes: None,
        ..sqlite::Config::default()
    };
    open_embedded(config, unregistered()).map_err(Failure::failed)
}

async fn open_stream(config: jetstream::Config) -> Result<Arc<dyn Log>, Failure> {
    let opening = open_log(LogConfig::Nats(config), unregistered());
    opening.await.map_err(Failure::failed)
}

fn unregistered() -> Metrics {
    Metrics::register(&mut Registry::default())
}

fn place(text: &str, settings: &Settings) -> Result<Place, Failure> {
    if text == "nats" {
        let stream = check_stream(settings).map_err(refusal)?;
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
