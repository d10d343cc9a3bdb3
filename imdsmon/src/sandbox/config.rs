//! How the simulated IMDS behaves: the settings of a real instance, and what goes wrong.

/// `HttpTokens` of the simulated instance.
// Also a command-line value: the first lines of the variants' documentation are help texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HttpTokens {
    /// IMDSv1 and IMDSv2 requests succeed
    #[default]
    Optional,
    /// IMDSv1 requests are rejected (401)
    Required,
}

/// What a client that asks for a token gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRequestMode {
    /// A token.
    #[default]
    Issue,
    /// Nothing, for good, on a connection that stays open: what a container behind a bridge
    /// sees at `HttpPutResponseHopLimit` 1.
    HopLimit,
    /// 403: what a redirecting proxy without IMDSv2 answers.
    Forbidden,
    /// 503: IMDS throttles.
    Throttled,
}

/// TCP Fast Open in the namespace: may a request ride in the SYN?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastOpen {
    /// No: a client that asks for it gets an ordinary handshake.
    Off,
    /// Yes, with a cookie: the first connection of a client to an address fetches it, the
    /// following ones carry data in the SYN.
    #[default]
    Cookie,
    /// Yes, from the first connection on.
    NoCookie,
}

impl FastOpen {
    /// The value of the sysctl `net.ipv4.tcp_fastopen`, bits as in the kernel's `ip-sysctl`:
    /// 1 client, 2 server, 4 client without a cookie, 0x200 server without a cookie.
    pub(super) fn sysctl(self) -> u32 {
        match self {
            // What a kernel starts with.
            Self::Off => 0x1,
            Self::Cookie => 0x3,
            Self::NoCookie => 0x207,
        }
    }
}

/// The settings of a simulated IMDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsConfig {
    /// Are tokens needed?
    pub http_tokens: HttpTokens,
    /// Does a token request work?
    pub token_requests: TokenRequestMode,
    /// Close the connection after each answer, and say so in `Connection: close`.
    pub close: bool,
    /// Value of the `Server` header; real IMDS says `EC2ws`. Control characters are left out.
    pub server: String,
    /// May requests ride in the SYN?
    pub fast_open: FastOpen,
}

impl Default for ImdsConfig {
    fn default() -> Self {
        Self {
            http_tokens: HttpTokens::default(),
            token_requests: TokenRequestMode::default(),
            close: false,
            server: "EC2ws".to_owned(),
            fast_open: FastOpen::default(),
        }
    }
}
