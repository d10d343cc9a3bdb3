//! Reads the knowledge files as the program will, so that wrong data fail the build.

use std::{env, error::Error, fs, path::Path};

#[expect(
    dead_code,
    reason = "the build only reads the data; the program uses them"
)]
#[path = "src/knowledge"]
mod knowledge {
    pub mod data;
    pub mod version;
}
#[path = "src/words.rs"]
mod words;

fn main() -> Result<(), Box<dyn Error>> {
    for name in ["sdks", "programs", "clouds", "paths"] {
        let file = format!("data/{name}.toml");
        println!("cargo::rerun-if-changed={file}");
        let path = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(&file);
        let text = fs::read_to_string(path)?;
        knowledge::data::Data::parse(&text).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}
