//! Sockets: pairs, names, and connections to elsewhere.

use crate::common::{Job, NOBODY, Spec, TempDir, assert_refused, is_root, skipped, wait_until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};

cycles! {
    sock_pair, sock_names, sock_unix, sock_full, sock_more, sock_rights,
    sock_closed, sock_groups, sock_creds, sock_half,
}

#[test]
fn as_nobody() {
    if is_root() {
        for name in
            ["sock_pair", "sock_names", "sock_unix", "sock_full", "sock_more", "sock_rights", "sock_groups", "pty_pair"]
        {
            if let Some(job) = Spec::new(name).user(NOBODY).start() {
                job.cycle();
            }
        }
    }
}

/// The program with three connections to here, see there.
fn start_lost(env: Option<(&str, &str)>) -> Option<(Job, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let mut spec = Spec::new("sock_lost").arg(port.to_string());
    if let Some((name, value)) = env {
        spec = spec.env(name, value);
    }
    let peers = std::thread::spawn(move || {
        let mut peers: Vec<TcpStream> = (0..3).map(|_| listener.accept().expect("accept").0).collect();
        peers[0].write_all(b"hello").expect("send");
        peers[1].write_all(b"bye").expect("send");
        peers[1].shutdown(std::net::Shutdown::Write).expect("shutdown");
        reset(peers.pop().expect("a third one"));
        peers
    });
    let job = spec.start()?;
    Some((job, peers.join().expect("peers")))
}

/// Closes a connection so that the other end is told of a reset.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
    // SAFETY: the kernel reads `linger` only.
    let set = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size_of_val(&linger) as u32)
    };
    assert_eq!(set, 0);
}

/// In the program that goes on, connections to elsewhere are as before.
#[test]
fn lost_going_on() {
    let Some((mut job, mut peers)) = start_lost(None) else { return };
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains("TCP connection to another process"), "{text}");
    job.go("after a checkpoint");
    job.end("after a checkpoint");
    let mut byte = [0];
    peers[0].read_exact(&mut byte).expect("what the program has sent");
    assert_eq!(&byte, b"x");
}

/// In a restarted program they have been reset by their peers, after what had come.
#[test]
fn lost_restarted() {
    let Some((mut job, _peers)) = start_lost(None) else { return };
    let image = job.checkpoint();
    job.sigkill();
    job.rewind(1);
    job.restart();
    job.go("after a restart");
    let later = job.checkpoint();
    job.end("after a checkpoint of a restarted program");
    job.rewind(2);
    job.restart_from(&later.path, &[], &[]);
    job.end("after another restart");
    job.rewind(1);
    job.restart_from(&image.path, &[], &[]);
    job.go("after a restart from the first image");
    job.end("after a restart from the first image");
}

#[test]
fn lost_refused() {
    let Some((mut job, _peers)) = start_lost(Some(("SELFCKPT_SOCKETS", "fail"))) else { return };
    let output = job.selfckpt(&["checkpoint".into(), job.pid().to_string()]);
    assert_refused(&output, 125, &["TCP connection to another process", "SELFCKPT_SOCKETS=reset"]);
    job.go("after the refusal");
    job.end("after the refusal");
}

/// What the process itself has closed is no connection to another process.
#[test]
fn closed_not_refused() {
    let Some(mut job) = Spec::new("sock_closed").env("SELFCKPT_SOCKETS", "fail").start() else { return };
    job.checkpoint_without_notices();
    job.sigkill();
    job.restart();
    // Ends that stand for closed ones are closed ones again.
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after two restarts");
}

/// Bytes that have not come from a closed end cannot be read.
#[test]
fn closed_with_bytes_on_the_way() {
    const WORDS: &str = "TCP connection whose other end is closed, with bytes on the way";
    let start = |sockets| Spec::new("sock_closed").arg("full").env("SELFCKPT_SOCKETS", sockets).start();
    let Some(mut job) = start("fail") else { return };
    let output = job.selfckpt(&["checkpoint".into(), job.pid().to_string()]);
    assert_refused(&output, 125, &[WORDS, "SELFCKPT_SOCKETS=reset"]);
    job.end("after the refusal");
    let Some(mut job) = start("reset") else { return };
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains(WORDS), "{text}");
    job.go("after a checkpoint");
    job.sigkill();
    job.rewind(1);
    job.restart_from(&image.path, &[], &[]);
    job.end("after a restart");
}

/// Multicast groups on an interface that has another number at the restart, or is not there.
#[test]
fn groups_by_name() {
    // A network of the program's own, in which "groups" comes after so many other interfaces.
    let network = |before: u32| {
        let others: Vec<_> =
            (0..before).map(|i| format!("ip link add other{i} type veth peer name peer{i}; ")).collect();
        let others = others.concat();
        format!(
            "set -e; ip link set lo up; {others} ip link add groups type veth peer name pair; \
             ip link set groups addrgenmode none; ip address add 10.77.0.1/24 dev groups; \
             ip address add fe80::77/64 dev groups nodad; ip link set pair up; ip link set groups up; exec \"$@\""
        )
    };
    let (one, other) = (network(0), network(2));
    let here = ["unshare", "--net", "sh", "-c", &one, "sh"];
    let there = ["unshare", "--net", "sh", "-c", &other, "sh"];
    let nowhere = ["unshare", "--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"];
    let possible = std::process::Command::new(here[0]).args(&here[1..]).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skipped("a network namespace with interfaces of its own (unshare, ip, veth)");
    }
    let Some(mut job) = Spec::new("sock_groups").arg("groups").arg("10.77.0.1").prefix(&here).start() else { return };
    // The command's answer would go to an abstract socket of another network namespace.
    job.checkpoint_by_signal();
    job.go("after a checkpoint");
    for prefix in [&there, &here, &there] {
        let image = job.checkpoint_by_signal();
        job.sigkill();
        job.restart_from(&image.path, prefix, &[]);
        job.go("with another number");
    }
    let image = job.checkpoint_by_signal();
    job.sigkill();
    job.restart_from(&image.path, &nowhere, &[]);
    for words in
        ["was in the multicast group 239.77.1.5 on groups, which is not there", "sent to multicast groups on groups"]
    {
        let said = wait_until(|| job.story().contains(words).then_some(()));
        assert!(said.is_some(), "{words:?} is not said\n{}", job.story());
    }
    job.sigkill();
}

/// UNIX connections by name to another process, and a destination of datagrams.
#[test]
fn unix_outside() {
    let dir = TempDir::new("unix_outside");
    let (stream, datagram) = (dir.path().join("stream"), dir.path().join("datagram"));
    let listener = UnixListener::bind(&stream).expect("bind");
    let receiver = UnixDatagram::bind(&datagram).expect("bind");
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("accept");
        peer.write_all(b"hello").expect("send");
        peer
    });
    let Some(mut job) = Spec::new("sock_outside").arg(&stream).arg(&datagram).start() else { return };
    let mut peer = peer.join().expect("peer");
    let image = job.checkpoint();
    let text = job.inspect(&image);
    assert!(text.contains("UNIX connection to another process"), "{text}");
    job.go("after a checkpoint");
    let mut got = [0; 16];
    peer.read_exact(&mut got[..1]).expect("what the program has sent");
    assert_eq!(receiver.recv(&mut got).expect("a datagram"), 8);
    let later = job.checkpoint();
    job.sigkill();
    job.restart_from(&later.path, &[], &[]);
    job.go("after a restart from the second image");
    job.sigkill();
    job.rewind(1);
    job.restart_from(&image.path, &[], &[]);
    job.go("after a restart");
    assert_eq!(receiver.recv(&mut got).expect("a datagram to the restarted program"), 8);
    job.checkpoint();
    job.sigkill();
    job.restart();
    job.end("after a restart of a restarted program");
}

/// Descriptors that come with messages cost no notice, and stay in flight from restart to restart.
#[test]
fn rights_in_flight() {
    let Some(mut job) = Spec::new("sock_rights").start() else { return };
    let (_, text) = job.checkpoint_without_notices();
    assert!(text.contains("in a message that waits"), "{text}");
    job.generations(3);
}

/// Gives what follows a pipe (15) and a socket (16), into which a process that is not its child has written its first
/// argument.
const GIVER: &str = r#"
    use POSIX; use Socket;
    pipe(R, W); socketpair(A, B, AF_UNIX, SOCK_STREAM, 0);
    my $text = shift @ARGV;
    if (my $child = fork) { waitpid $child, 0 }
    elsif (fork) { POSIX::_exit 0 }
    else { close R; close A; syswrite W, $text; syswrite B, $text; sysread B, $text, 1; POSIX::_exit 0 }
    POSIX::dup2(fileno R, 15); POSIX::dup2(fileno A, 16);
    exec @ARGV;
"#;

/// Descriptors of the restarting command take the place of those with the same numbers; without them their peers have
/// closed.
#[test]
fn inherited() {
    let giver = |text| ["perl", "-e", GIVER, text];
    let Some(mut job) = Spec::new("fd_inherited").prefix(&giver("first")).start() else { return };
    let expect = |result: &str, pipe: &str, socket: &str| {
        let lines = format!("pipe {pipe}\nsocket {socket}\n");
        assert!(result.contains(&lines), "{result} instead of {lines}");
    };
    let image = job.checkpoint();
    let text = job.inspect(&image);
    for fd in [15, 16] {
        assert!(text.contains(&format!("after a restart it is fd {fd} of the restarting command")), "{text}");
    }
    expect(&job.go("after a checkpoint"), "'first' open", "'first' open");
    job.sigkill();
    job.rewind(1);
    job.restart_from(&image.path, &giver("again"), &[]);
    expect(&job.go("with others in their place"), "'again' open", "'again' open");
    job.checkpoint();
    job.sigkill();
    job.rewind(1);
    job.restart_from(&image.path, &[], &[]);
    expect(&job.go("without them"), "'first' end", "'' end");
    job.checkpoint();
    job.sigkill();
    job.restart();
    expect(&job.go("without them again"), "'' end", "'' end");
    job.end("at the end");
}
