//! Messages as JSON, with the proto's field names.

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};

use super::failure::Failure;
use super::output::Printable;
use crate::proto;

/// One line of JSON; `name` is the message's, in our package.
pub(super) fn line(message: &impl Message, name: &str) -> Result<Printable, Failure> {
    let failed = |error: String| Failure::Failed(format!("cannot print {name} as JSON: {error}"));
    let descriptor = proto::DESCRIPTORS
        .get_message_by_name(&format!("{}.{name}", proto::PACKAGE))
        .ok_or_else(|| failed("no descriptor".to_owned()))?;
    let message = DynamicMessage::decode(descriptor, &message.encode_to_vec()[..])
        .map_err(|error| failed(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut out);
    message
        .serialize_with_options(&mut serializer, &options)
        .map_err(|error| failed(error.to_string()))?;
    let json = String::from_utf8(out).map_err(|error| failed(error.to_string()))?;
    Ok(Printable::json(&json))
}
