//! The README's example of three machines, on three sets of ports.

use tempfile::TempDir;

use super::server::{Server, free_ports};
use crate::harness::{Gateway, Options, after, body, from_earliest};
use crate::readme::{commands, manual, words};

/// The three addresses of the README, at other ports of this machine.
fn here(text: &str, port: &str, ports: [u16; 3]) -> String {
    (1..=3).fold(text.to_owned(), |text, machine| {
        let there = format!("10.0.0.{machine}{port}");
        text.replace(&there, &format!("127.0.0.1:{}", ports[machine - 1]))
    })
}

#[tokio::test]
async fn three_machines_as_the_readme_has_them() {
    let manual = manual();
    let config = manual.split("```conf\n").nth(1).expect("a block");
    let config = config.split("```").next().expect("its end");
    let commands = commands();
    let find = |start: &str| {
        let command = commands.iter().find(|command| command.contains(start));
        words(command.expect("it is there"))
    };
    let server = find("nats-server --config nats.conf");
    let gateway = find("serve --log nats");

    let (routes, clients) = (free_ports(), free_ports());
    let directory = TempDir::new().expect("a temporary directory");
    let servers = [0, 1, 2].map(|index| {
        let home = directory.path().join(index.to_string());
        std::fs::create_dir(&home).expect("created");
        let config = here(config, ":6222", routes)
            .replace("0.0.0.0:6222", &format!("127.0.0.1:{}", routes[index]))
            .replace("/var/lib/nats", &home.join("store").display().to_string());
        std::fs::write(home.join("nats.conf"), config).expect("written");
        let mut args = server[1..].to_vec();
        for name in args.iter_mut().filter(|arg| *arg == "one") {
            *name = ["one", "two", "three"][index].to_owned();
        }
        let listen = ["--addr", "127.0.0.1", "--port", &clients[index].to_string()];
        args.extend(listen.map(str::to_owned));
        Server::run_in(&home, &args)
    });
    let args: Vec<String> = gateway[3..]
        .iter()
        .map(|arg| here(arg, "", clients))
        .collect();
    let gateways = [(); 3].map(|()| {
        Gateway::start_with(Options {
            args: args.clone(),
            env: Vec::new(),
        })
    });
    for (number, gateway) in gateways.iter().enumerate() {
        let event = body("user.created", "user_1");
        gateway.accept(&format!("msg_{number}"), event).await;
    }
    let mut stream = gateways[0].subscribe(from_earliest()).await;
    let (cursor, event) = stream.next_event().await;
    assert_eq!(event.id, "msg_0");
    assert_eq!(gateways[1].history(after(&cursor)).await.len(), 2);
    drop(servers);
}
