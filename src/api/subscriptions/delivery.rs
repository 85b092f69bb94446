//! The stream to a worker: each frame encoded as it is sent.

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::message;
use crate::access::Principal;
use crate::api::problem::Problem;
use crate::api::service::Api;
use crate::api::{Frame, narrowed};
use crate::fanout::{View, encoded_event};
use crate::proto;
use crate::proto::field::{delivery, receive_response};
use crate::proto::receive_response::Kind;
use crate::subscriptions::{Delivery, Name, StreamFrame, WorkerStream};

/// An open stream to a worker, pulled by its connection.
#[derive(Debug)]
pub struct DeliveryStream {
    api: Api,
    principal: Principal,
    worker: WorkerStream,
}

impl DeliveryStream {
    pub(super) fn new(api: Api, principal: Principal, worker: WorkerStream) -> Self {
        Self {
            api,
            principal,
            worker,
        }
    }

    /// What comes next; nothing once the stream has ended as asked.
    pub async fn next(&mut self) -> Option<Result<Frame, Problem>> {
        Some(match self.worker.next().await? {
            Ok(frame) => Ok(self.encode(frame)),
            Err(error) => Err(self.api.refusal(&self.principal, &error)),
        })
    }

    fn encode(&self, frame: StreamFrame) -> Frame {
        let kind = match frame {
            StreamFrame::Delivery(delivery) => {
                return delivered(self.worker.name(), self.worker.view(), &delivery);
            }
            StreamFrame::Started(overview, narrowed) => Kind::Started(proto::ReceiveStarted {
                subscription: Some(message::subscription(*overview)),
                narrowed: narrowed.map(narrowed::message),
            }),
            StreamFrame::Heartbeat(condition, lag) => Kind::Heartbeat(proto::ReceiveHeartbeat {
                state: message::state(condition.is_paused, condition.stall).into(),
                lag: Some(lag.into()),
            }),
        };
        Frame::message(&proto::ReceiveResponse { kind: Some(kind) })
    }
}

/// A `ReceiveResponse` around the bytes of the event, which are those that `Subscribe` sends.
/// Protobuf fields may stand in any order.
fn delivered(name: &Name, view: &View, delivery: &Delivery) -> Frame {
    let Delivery { grant, record } = delivery;
    let event = encoded_event(record.view(), view);
    let rest = proto::Delivery {
        ack_id: grant.ack_id.to_text(name),
        event: None,
        attempt: i32::try_from(grant.attempt).unwrap_or(i32::MAX),
        deadline: Some(grant.deadline.into()),
        replayed: grant.replayed,
    };
    let rest = rest.encode_to_vec();
    let event_key = key(delivery::EVENT, event.len());
    let length = rest.len() + event_key.len() + event.len();
    let key = key(receive_response::DELIVERY, length);
    Frame::of_parts(&[&key, &rest, &event_key, &event])
}

/// A field's key, and the length of what follows.
fn key(field: u32, length: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(8);
    encode_key(field, WireType::LengthDelimited, &mut key);
    encode_varint(length as u64, &mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Redaction;
    use crate::clerk;
    use crate::event::{Attributes, Position, Run, UnixMillis};
    use crate::fanout::{Encoding, Payload, event_message};
    use crate::log::{Entry, Record};
    use crate::subscriptions::{AckId, Grant, Lease};

    #[test]
    fn a_delivery_is_what_the_generated_code_would_encode() {
        let body = r#"{"type":"user.deleted","data":{"id":"user_1","deleted":true}}"#;
        let envelope = clerk::Envelope {
            id: "msg_1",
            source: "default",
            send_time: UnixMillis::new(1_000),
        };
        let delivery = Delivery {
            grant: Grant {
                ack_id: AckId {
                    generation: 7,
                    position: Position::new(9),
                    lease: Lease::new(3),
                },
                attempt: 2,
                deadline: UnixMillis::new(31_000),
                replayed: true,
            },
            record: Record {
                position: Position::new(9),
                run: Run::new(3),
                entry: Entry {
                    id: "msg_1".to_owned(),
                    attributes: Attributes::default(),
                    receive_time: UnixMillis::new(1_234),
                    event: clerk::decode(envelope, body.as_bytes()).event,
                    decoding: clerk::decoding(),
                    payload: body.into(),
                },
            },
        };
        let name = "crm".parse().expect("a name");
        for payload in [Payload::Omitted, Payload::Included] {
            let view = View {
                payload,
                redaction: Redaction::default(),
                encoding: Encoding::Proto,
            };
            let frame = delivered(&name, &view, &delivery);
            let expected = proto::Delivery {
                ack_id: delivery.grant.ack_id.to_text(&name),
                event: event_message(delivery.record.view(), &view).ok(),
                attempt: 2,
                deadline: Some(UnixMillis::new(31_000).into()),
                replayed: true,
            };
            let expected = proto::ReceiveResponse {
                kind: Some(Kind::Delivery(expected)),
            };
            let sent = frame.bytes();
            let (prefix, message) = sent.split_at(5);
            let length = u32::try_from(message.len()).expect("short").to_be_bytes();
            assert_eq!(prefix, [&[0][..], &length].concat());
            assert_eq!(proto::ReceiveResponse::decode(message), Ok(expected));
        }
    }
}
