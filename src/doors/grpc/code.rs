//! gRPC's codes: their names, and the one that ends an answer.

use http::HeaderMap;
use tonic::{Code, Status};

/// Numbers that codes have, from 0 on.
pub(super) const CODES: usize = 17;

/// The code that trailers end an answer with.
pub(super) fn code_of(trailers: &HeaderMap) -> Code {
    let value = trailers.get(Status::GRPC_STATUS);
    value.map_or(Code::Unknown, |value| Code::from_bytes(value.as_bytes()))
}

/// A code as gRPC's documents write it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
