//! Files of archived events.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

use crate::clerk;
use crate::event::UnixMillis;
use crate::log::Entry;
use crate::proto::{self, ArchivedEvent};

/// Far more than the largest event takes up: what says that it is longer is no archive.
const EVENT_BYTES_MAX: usize = 16 << 20;
const STANDARD: &str = "-";

/// How events lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Each with its length before it.
    Protobuf,
}

/// A file that is read.
pub(super) struct Reader {
    path: PathBuf,
    format: Format,
    content: Box<dyn BufRead + Send>,
    /// Events read so far.
    count: u64,
}

impl Reader {
    pub(super) fn open(path: PathBuf, format: Format) -> anyhow::Result<Self> {
        let content: Box<dyn BufRead + Send> = if path.as_os_str() == STANDARD {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            Box::new(BufReader::new(file))
        };
        Ok(Self {
            path,
            format,
            content,
            count: 0,
        })
    }

    /// The next records, until they are so many or so large; none at the end.
    pub(super) fn next_records(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> anyhow::Result<Vec<Entry>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < records_max && bytes < bytes_max {
            let read = match self.format {
                Format::Ndjson => self.next_line(),
                Format::Protobuf => self.next_message(),
            };
            let event = read.and_then(|event| event.map(record).transpose());
            let event = event
                .with_context(|| format!("{}: event {}", self.path.display(), self.count + 1))?;
            let Some(event) = event else { break };
            self.count += 1;
            bytes += event.bytes();
            records.push(event);
        }
        Ok(records)
    }

    fn next_line(&mut self) -> anyhow::Result<Option<ArchivedEvent>> {
        let mut line = String::new();
        loop {
            line.clear();
            let mut limited = (&mut self.content).take(EVENT_BYTES_MAX as u64);
            if limited.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if !line.trim().is_empty() {
                break;
            }
        }
        let mut json = serde_json::Deserializer::from_str(&line);
        let event = DynamicMessage::deserialize(descriptor()?, &mut json);
        let event = event.and_then(|event| json.end().map(|()| event));
        // What the parser says may quote the event.
        let event = event.map_err(|error| {
            anyhow!(
                "not an ArchivedEvent in JSON, from column {} on",
                error.column()
            )
        })?;
        Ok(Some(event.transcode_to()?))
    }

    fn next_message(&mut self) -> anyhow::Result<Option<ArchivedEvent>> {
        let Some(length) = self.next_length()? else {
            return Ok(None);
        };
        ensure!(length <= EVENT_BYTES_MAX, "its length is that of no event");
        let mut encoded = vec![0; length];
        let read = self.content.read_exact(&mut encoded);
        read.context("the file ends within it")?;
        Ok(Some(ArchivedEvent::decode(&encoded[..])?))
    }

    /// A varint; none at the end of the file.
    fn next_length(&mut self) -> anyhow::Result<Option<usize>> {
        let mut length = 0_usize;
        for place in 0..5 {
            let mut byte = [0];
            if self.content.read(&mut byte)? == 0 {
                ensure!(place == 0, "the file ends within its length");
                return Ok(None);
            }
            let [byte] = byte;
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(Some(length));
            }
        }
        bail!("its length is that of no event")
    }
}

/// A file that is written. It has its name once it is whole.
pub(super) struct Writer {
    path: PathBuf,
    unfinished: PathBuf,
    format: Format,
    content: Box<dyn Write + Send>,
    file: Option<File>,
}

impl Writer {
    pub(super) fn create(path: PathBuf, format: Format) -> anyhow::Result<Self> {
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let (content, file): (Box<dyn Write + Send>, _) = if path.as_os_str() == STANDARD {
            (Box::new(BufWriter::new(io::stdout())), None)
        } else {
            ensure!(!path.exists(), "{}: there is such a file", path.display());
            let file =
                create_for_owner(&unfinished).with_context(|| unfinished.display().to_string())?;
            (Box::new(BufWriter::new(file.try_clone()?)), Some(file))
        };
        Ok(Self {
            path,
            unfinished,
            format,
            content,
            file,
        })
    }

    pub(super) fn write(&mut self, records: &[Entry]) -> anyhow::Result<()> {
        for record in records {
            let event = archived(record)?;
            let written = match self.format {
                Format::Ndjson => self.content.write_all(line(&event)?.as_bytes()),
                Format::Protobuf => self
                    .content
                    .write_all(&event.encode_length_delimited_to_vec()),
            };
            written.with_context(|| self.path.display().to_string())?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let finished = self.content.flush();
        finished.with_context(|| self.path.display().to_string())?;
        if let Some(file) = &self.file {
            file.sync_all()?;
            std::fs::rename(&self.unfinished, &self.path)?;
        }
        Ok(())
    }
}

/// It holds what the log's own file holds.
fn create_for_owner(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

fn archived(record: &Entry) -> anyhow::Result<ArchivedEvent> {
    let event = proto::Event::decode(&record.event[..]);
    let event = event.with_context(|| format!("the stored event {}", record.id))?;
    Ok(ArchivedEvent {
        id: record.id.clone(),
        source: record.attributes.source.clone(),
        send_time: event.send_time,
        receive_time: Some(record.receive_time.into()),
        payload_json: String::from_utf8(record.payload.to_vec())
            .map_err(|_| anyhow!("the body of {} is not UTF-8", record.id))?,
    })
}

/// As the webhook would have handed it in.
fn record(event: ArchivedEvent) -> anyhow::Result<Entry> {
    ensure!(!event.id.is_empty(), "it has no id");
    ensure!(!event.source.is_empty(), "it has no source");
    let receive_time = event.receive_time.as_ref().map(UnixMillis::from);
    let receive_time = receive_time.context("it has no receive_time")?;
    let send_time = event.send_time.as_ref().map(UnixMillis::from);
    let envelope = clerk::Envelope {
        id: &event.id,
        source: &event.source,
        send_time: send_time.context("it has no send_time")?,
    };
    let decoded = clerk::decode(envelope, event.payload_json.as_bytes());
    Ok(Entry {
        id: event.id,
        attributes: decoded.attributes,
        receive_time,
        event: decoded.event,
        decoding: clerk::decoding(),
        payload: Bytes::from(event.payload_json),
    })
}

fn descriptor() -> anyhow::Result<MessageDescriptor> {
    let name = format!("{}.ArchivedEvent", proto::PACKAGE);
    let descriptor = proto::DESCRIPTORS.get_message_by_name(&name);
    descriptor.with_context(|| format!("there is no message {name}"))
}

fn line(event: &ArchivedEvent) -> anyhow::Result<String> {
    let mut message = DynamicMessage::new(descriptor()?);
    message.transcode_from(event)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut json, &options)?;
    let mut line = String::from_utf8(json.into_inner())?;
    line.push('\n');
    Ok(line)
}
