//! Behavior of the simulated IMDS: the instance's settings and the failures to simulate.

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

/// The response to token requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRequestMode {
    #[default]
    Issue,
    /// No response on a connection that stays open, as observed by a container behind a bridge at
    /// `HttpPutResponseHopLimit` 1.
    HopLimit,
    /// 403, as from a proxy that does not forward IMDSv2.
    Forbidden,
    /// 503: throttled.
    Throttled,
}

/// TCP Fast Open in the namespace, which decides whether a SYN may carry a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastOpen {
    /// Clients that request it get an ordinary handshake.
    Off,
    /// With a cookie: a client's first connection to an address fetches it, later ones carry
    /// data in the SYN.
    #[default]
    Cookie,
    /// From the first connection on.
    NoCookie,
}

impl FastOpen {
    /// The value of the sysctl `net.ipv4.tcp_fastopen`, bits as in the kernel's `ip-sysctl`:
    /// 1 client, 2 server, 4 client without a cookie, 0x200 server without a cookie.
    pub(super) fn sysctl(self) -> u32 {
        match self {
            // The kernel's default.
            Self::Off => 0x1,
            Self::Cookie => 0x3,
            Self::NoCookie => 0x207,
        }
    }
}

/// The settings of a simulated IMDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsConfig {
    /// Whether IMDSv1 requests succeed.
    pub http_tokens: HttpTokens,
    /// The response to token requests.
    pub token_requests: TokenRequestMode,
    /// Close the connection after each response, with `Connection: close`.
    pub close: bool,
    /// Value of the `Server` header; real IMDS sends `EC2ws`. Control characters are left out.
    pub server: String,
    /// Whether a SYN may carry a request.
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
