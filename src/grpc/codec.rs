//! Frames leave as they were encoded.

use bytes::BufMut as _;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use crate::fanout::Frame;
use crate::proto::SubscribeRequest;

/// The codec of `Subscribe`: protobuf in, frames out.
#[derive(Debug, Default)]
pub struct FrameCodec;

/// Writes a frame's bytes.
#[derive(Debug)]
pub struct FrameEncoder;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = SubscribeRequest;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<SubscribeRequest>;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = frame.as_bytes();
        out.reserve(bytes.len());
        out.put_slice(bytes);
        Ok(())
    }
}
