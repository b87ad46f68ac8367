//! Generates the messages and stubs of samplerd.v1 and google.rpc. Needs `protoc` with the well-known types.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "protos"; // a link in the tree, a folder in the published crate
    println!("cargo:rerun-if-changed={protos}");
    let mut config = prost_build::Config::new();
    config.disable_comments([".google.rpc"]); // their examples are not Rust, and would be run as such
    tonic_build::configure()
        .build_server(false)
        .bytes([".samplerd.v1.Tensor.data"])
        .compile_protos_with_config(
            config,
            &[
                format!("{protos}/samplerd/v1/sampler.proto"),
                format!("{protos}/third_party/google/rpc/status.proto"),
                format!("{protos}/third_party/google/rpc/error_details.proto"),
            ],
            &[format!("{protos}/third_party"), protos.to_owned()],
        )?;
    Ok(())
}
