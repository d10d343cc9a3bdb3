//! Processor architectures that imdsmon is built for.

/// A processor architecture, by its Debian name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// x86_64
    Amd64,
    /// AArch64, for example Graviton
    Arm64,
}

impl Arch {
    /// In the order in which packages are built.
    pub const ALL: &[Self] = &[Self::Amd64, Self::Arm64];

    /// Debian's and OCI's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's name, also that of rpm and qemu.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    pub fn rust_target(self) -> String {
        format!("{}-unknown-linux-gnu", self.machine())
    }

    /// Whether this machine runs its programs.
    pub fn is_native(self) -> bool {
        self.machine() == std::env::consts::ARCH
    }
}
