//! What scripts, dashboards and clients depend on, held to files: the help of every command and
//! the descriptors. A change of one of them changes its file, on purpose.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clerkcast::proto::DESCRIPTORS;

use crate::voice::{COMMANDS, help_at};

/// Compares with a file below `tests`. What differs is written, to be copied if it is right.
#[track_caller]
pub(crate) fn hold(path: &str, found: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests").join(path);
    if std::fs::read_to_string(&golden).is_ok_and(|expected| expected == found) {
        return;
    }
    let name = golden.file_name().expect("a file").to_string_lossy();
    let written = root.join("target/golden").join(&*name);
    std::fs::create_dir_all(written.parent().expect("below target")).expect("made");
    std::fs::write(&written, found).expect("written");
    panic!("{path} has changed; if that is meant: cp target/golden/{name} tests/{path}\n{found}");
}

#[test]
fn the_help_of_every_command_is_that_of_its_file() {
    for columns in [80, 100] {
        let mut all = String::new();
        for command in COMMANDS {
            writeln!(all, "== clerkcast {} --help", command.join(" ")).expect("a string");
            all += &help_at(columns, command);
        }
        hold(&format!("golden/help-{columns}.txt"), &all);
    }
}

#[test]
fn descriptors_are_those_of_the_file() {
    let mut all = BTreeSet::new();
    for service in DESCRIPTORS.services() {
        for method in service.methods() {
            let stream = if method.is_server_streaming() {
                "stream "
            } else {
                ""
            };
            let (input, output) = (method.input(), method.output());
            let name = method.full_name();
            all.insert(format!(
                "rpc {name}({}) returns ({stream}{})",
                input.full_name(),
                output.full_name()
            ));
        }
    }
    for message in DESCRIPTORS.all_messages() {
        for field in message.fields() {
            let repeated = if field.is_list() { "repeated " } else { "" };
            let (name, number, kind) = (field.full_name(), field.number(), field.kind());
            all.insert(format!("{repeated}{name} = {number}: {kind:?}"));
        }
    }
    for values in DESCRIPTORS.all_enums() {
        for value in values.values() {
            all.insert(format!("{} = {}", value.full_name(), value.number()));
        }
    }
    all.retain(|line| line.contains("clerkcast."));
    let mut text = all.into_iter().collect::<Vec<_>>().join("\n");
    text.push('\n');
    hold("golden/descriptors.txt", &text);
}
