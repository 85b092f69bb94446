//! Files of archived events.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

use super::error::{Error, InvalidEvent};
use crate::event::UnixMillis;
use crate::intake::Submission;
use crate::log::Entry;
use crate::proto::{self, ArchivedEvent};

/// Far more than the largest event; a longer one is not from an archive.
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
    /// Events read up to here.
    count: u64,
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Reader({:?} of {})",
            self.format,
            self.path.display()
        )
    }
}

impl Reader {
    pub(super) fn open(path: PathBuf, format: Format) -> Result<Self, Error> {
        let content: Box<dyn BufRead + Send> = if path.as_os_str() == STANDARD {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(&path).map_err(|cause| of_file(&path, cause))?;
            Box::new(BufReader::new(file))
        };
        Ok(Self {
            path,
            format,
            content,
            count: 0,
        })
    }

    /// The next events, until they reach either maximum; none at the end.
    pub(super) fn next_events(
        &mut self,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Submission>, Error> {
        let mut events = Vec::new();
        let mut bytes = 0;
        while events.len() < events_max && bytes < bytes_max {
            let Some(event) = self.next_event().map_err(|cause| Error::Event {
                path: self.path.clone(),
                number: self.count + 1,
                cause,
            })?
            else {
                break;
            };
            self.count += 1;
            bytes += event.body.len();
            events.push(event);
        }
        Ok(events)
    }

    fn next_event(&mut self) -> Result<Option<Submission>, InvalidEvent> {
        let event = match self.format {
            Format::Ndjson => self.next_line()?,
            Format::Protobuf => self.next_message()?,
        };
        event.map(submission).transpose()
    }

    fn next_line(&mut self) -> Result<Option<ArchivedEvent>, InvalidEvent> {
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
        let event = DynamicMessage::deserialize(descriptor()?, &mut json)
            .and_then(|event| json.end().map(|()| event))
            .map_err(|error| InvalidEvent::Json(error.column()))?;
        Ok(Some(event.transcode_to()?))
    }

    fn next_message(&mut self) -> Result<Option<ArchivedEvent>, InvalidEvent> {
        let Some(length) = self.next_length()? else {
            return Ok(None);
        };
        if length > EVENT_BYTES_MAX {
            return Err(InvalidEvent::Length);
        }
        let mut encoded = vec![0; length];
        let read = self.content.read_exact(&mut encoded);
        read.map_err(InvalidEvent::EndsWithin)?;
        Ok(Some(ArchivedEvent::decode(&encoded[..])?))
    }

    /// A varint; none at the end of the file.
    fn next_length(&mut self) -> Result<Option<usize>, InvalidEvent> {
        let mut length = 0_usize;
        for place in 0..5 {
            let mut byte = [0];
            if self.content.read(&mut byte)? == 0 {
                let is_at_end = place == 0;
                return is_at_end
                    .then_some(None)
                    .ok_or(InvalidEvent::EndsWithinLength);
            }
            let [byte] = byte;
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(Some(length));
            }
        }
        Err(InvalidEvent::Length)
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

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Writer({:?} to {})",
            self.format,
            self.path.display()
        )
    }
}

impl Writer {
    pub(super) fn create(path: PathBuf, format: Format) -> Result<Self, Error> {
        let mut unfinished_name = path.clone().into_os_string();
        unfinished_name.push(".unfinished");
        let unfinished = PathBuf::from(unfinished_name);
        let (content, file): (Box<dyn Write + Send>, _) = if path.as_os_str() == STANDARD {
            (Box::new(BufWriter::new(io::stdout())), None)
        } else {
            if path.exists() {
                return Err(Error::FileExists(path));
            }
            let created = create_for_owner(&unfinished)
                .and_then(|file| Ok((BufWriter::new(file.try_clone()?), file)));
            let (content, file) = created.map_err(|cause| of_file(&unfinished, cause))?;
            (Box::new(content), Some(file))
        };
        Ok(Self {
            path,
            unfinished,
            format,
            content,
            file,
        })
    }

    pub(super) fn write(&mut self, event: &ArchivedEvent) -> Result<(), Error> {
        let written = match self.format {
            Format::Ndjson => {
                let line = line(event).map_err(|cause| Error::Json {
                    id: event.id.clone(),
                    cause,
                })?;
                self.content.write_all(&line)
            }
            Format::Protobuf => {
                let encoded = event.encode_length_delimited_to_vec();
                self.content.write_all(&encoded)
            }
        };
        written.map_err(|cause| of_file(&self.path, cause))
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        let flushed = self.content.flush();
        let finished = flushed.and_then(|()| match &self.file {
            None => Ok(()),
            Some(file) => {
                file.sync_all()?;
                std::fs::rename(&self.unfinished, &self.path)
            }
        });
        finished.map_err(|cause| of_file(&self.path, cause))
    }
}

fn of_file(path: &Path, cause: io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        cause,
    }
}

/// It holds what the log's own file holds.
fn create_for_owner(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// An entry of a log, as an archive holds it.
pub(super) fn archived(entry: &Entry) -> Result<ArchivedEvent, Error> {
    let event = proto::Event::decode(&entry.event[..]).map_err(|cause| Error::StoredEvent {
        id: entry.id.clone(),
        cause,
    })?;
    Ok(ArchivedEvent {
        id: entry.id.clone(),
        source: entry.attributes.source.clone(),
        send_time: event.send_time,
        receive_time: Some(entry.receive_time.into()),
        payload_json: text(&entry.id, &entry.payload)?,
    })
}

/// An event of another archive, as an archive holds it.
pub(super) fn archived_again(event: Submission) -> Result<ArchivedEvent, Error> {
    Ok(ArchivedEvent {
        payload_json: text(&event.id, &event.body)?,
        id: event.id,
        source: event.source,
        send_time: Some(event.send_time.into()),
        receive_time: Some(event.receive_time.into()),
    })
}

fn text(id: &str, body: &[u8]) -> Result<String, Error> {
    String::from_utf8(body.to_vec()).map_err(|_| Error::BodyNotUtf8(id.to_owned()))
}

/// As the webhook would have handed it in.
fn submission(event: ArchivedEvent) -> Result<Submission, InvalidEvent> {
    if event.id.is_empty() {
        return Err(InvalidEvent::Lacks("id"));
    }
    if event.source.is_empty() {
        return Err(InvalidEvent::Lacks("source"));
    }
    let receive_time = event.receive_time.as_ref().map(UnixMillis::from);
    let send_time = event.send_time.as_ref().map(UnixMillis::from);
    Ok(Submission {
        id: event.id,
        source: event.source,
        receive_time: receive_time.ok_or(InvalidEvent::Lacks("receive_time"))?,
        send_time: send_time.ok_or(InvalidEvent::Lacks("send_time"))?,
        body: Bytes::from(event.payload_json),
    })
}

fn descriptor() -> Result<MessageDescriptor, InvalidEvent> {
    let name = format!("{}.ArchivedEvent", proto::PACKAGE);
    let descriptor = proto::DESCRIPTORS.get_message_by_name(&name);
    descriptor.ok_or(InvalidEvent::NoMessage(name))
}

fn line(event: &ArchivedEvent) -> Result<Vec<u8>, InvalidEvent> {
    let mut message = DynamicMessage::new(descriptor()?);
    message.transcode_from(event)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut json, &options)?;
    let mut line = json.into_inner();
    line.push(b'\n');
    Ok(line)
}
