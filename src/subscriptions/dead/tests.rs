use super::*;

fn record(body: &'static str) -> Record {
    let envelope = clerk::Envelope {
        id: "msg_1",
        source: "default",
        send_time: UnixMillis::new(5_000),
    };
    let decoded = clerk::decode(envelope, body.as_bytes());
    Record {
        position: Position::new(1_000),
        run: Run::new(3),
        entry: Entry {
            id: "msg_1".to_owned(),
            attributes: decoded.attributes,
            receive_time: UnixMillis::new(6_000),
            event: decoded.event,
            decoding: clerk::decoding(),
            payload: Bytes::from_static(body.as_bytes()),
        },
    }
}

fn death(reason: &str) -> Death {
    Death {
        deliveries: 3,
        lease: Lease::new(9),
        reason: reason.to_owned(),
        dead_time: UnixMillis::new(7_000),
    }
}

const BODY: &str = r#"{"type":"user.deleted","instance_id":"ins_1","data":{"id":"user_1"}}"#;

#[test]
fn a_letter_is_whole_after_a_round_trip() {
    let record = record(BODY);
    let letter = StoredLetter::new(&record, death("broken"));
    let value = letter.encode();
    let read = StoredLetter::decode(&value).expect("decodes");
    assert_eq!(read, letter);
    assert_eq!(read.bytes(), BODY.len() as u64);
    assert_eq!(read.send_time, Some(UnixMillis::new(5_000)));
    let again = read.to_record();
    assert_eq!(again.position, record.position);
    assert_eq!(again.run, record.run);
    assert_eq!(again.entry.attributes, record.entry.attributes);
    assert_eq!(again.entry.event, record.entry.event);
    assert_eq!(again.entry.payload, record.entry.payload);
    assert!(value.len() <= record.entry.bytes() + 200);
}

#[test]
fn fields_of_later_versions_survive_a_second_death() {
    let mut value = StoredLetter::new(&record(BODY), death("broken"))
        .encode()
        .to_vec();
    let later = [0xa2, 0x06, 2, b'h', b'i'];
    value.extend(later);
    let letter = StoredLetter::decode(&value.into()).expect("decodes");
    let again = letter.again(death("once more")).encode();
    assert!(again.ends_with(&later));
    let again = StoredLetter::decode(&again).expect("decodes");
    assert_eq!(again.reason, "once more");
    assert_eq!(again.payload, BODY);
}

#[test]
fn a_reason_is_cut_at_a_character() {
    for (reason, kept) in [
        ("short".to_owned(), 5),
        ("x".repeat(REASON_BYTES_MAX), REASON_BYTES_MAX),
        ("x".repeat(REASON_BYTES_MAX + 1), REASON_BYTES_MAX),
        (format!("x{}", "é".repeat(600)), REASON_BYTES_MAX - 1),
    ] {
        let letter = StoredLetter::new(&record(BODY), death(&reason));
        assert_eq!(letter.reason, reason[..kept]);
    }
}

#[test]
fn a_cell_that_no_gateway_wrote_is_refused() {
    assert!(StoredLetter::decode(&Bytes::from_static(b"\xff\xff")).is_err());
}
