//! Compiles `forebay/v1/*.proto` and `inference/*.proto` with protox, so that no `protoc` need be installed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "forebay/v1/feature_store.proto",
        "forebay/v1/admin.proto",
        "forebay/v1/diagnoses.proto",
        "forebay/v1/registry.proto",
        "inference/grpc_predict_v2.proto",
    ];
    let descriptors = protox::compile(protos, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    Ok(())
}
