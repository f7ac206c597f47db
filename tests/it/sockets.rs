//! Sockets: pairs, names, and connections to elsewhere.

cycles! {
    sock_pair, sock_names,
}
