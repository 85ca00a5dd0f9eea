//! Every method that the node serves, read from the descriptors, so that no list of them has to be kept by hand. It never knows what a
//! method does.

use std::sync::Arc;

use prost::Message;
use prost_types::FileDescriptorSet;

use crate::wire;

/// One method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// "/tradelane.v1.EventService/Publish".
    pub path: Arc<str>,
    /// "tradelane.v1.EventService".
    pub service: Arc<str>,
    /// "Publish".
    pub name: Arc<str>,
    /// The caller sends a stream.
    pub client_streaming: bool,
    /// The node answers with a stream.
    pub server_streaming: bool,
}

/// All methods.
#[derive(Debug, Clone)]
pub struct Methods(Arc<[Method]>);

/// The descriptors that reflection serves: our own API, health, and the details of errors (without which clients print them as base64).
#[must_use]
pub fn descriptor_sets() -> [&'static [u8]; 3] {
    [wire::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET]
}

impl Methods {
    /// Reads the descriptors of our own API, of health and of reflection.
    #[must_use]
    pub fn served() -> Self {
        let sets = [
            wire::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        Self(sets.into_iter().flat_map(read).collect())
    }

    /// Every method, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Method> {
        self.0.iter()
    }
}

fn read(descriptors: &[u8]) -> Vec<Method> {
    let set = FileDescriptorSet::decode(descriptors).expect("descriptors are compiled in, and a test decodes them");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let service_name: Arc<str> = format!("{}.{}", file.package(), service.name()).into();
            methods.extend(service.method.iter().map(|method| Method {
                path: format!("/{service_name}/{}", method.name()).into(),
                service: service_name.clone(),
                name: method.name().into(),
                client_streaming: method.client_streaming(),
                server_streaming: method.server_streaming(),
            }));
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_with_their_streams() {
        let methods = Methods::served();
        let get = |path: &str| methods.iter().find(|method| &*method.path == path);
        let publish = get("/tradelane.v1.EventService/Publish").expect("served");
        assert!(!publish.client_streaming && !publish.server_streaming);
        let pipelined = get("/tradelane.v1.EventService/PublishStream").expect("served");
        assert!(pipelined.client_streaming && pipelined.server_streaming);
        assert!(get("/grpc.health.v1.Health/Watch").expect("served").server_streaming);
        assert!(get("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").is_some());
        assert!(get("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo").is_some());
        assert!(get("/tradelane.v1.EventService/Nothing").is_none());
    }
}
