//! gRPC reflection, v1 and v1alpha, so that grpcurl and its like work with nothing but certificates. It never describes more than what
//! is served.

use tonic::service::Routes;

use super::methods::descriptor_sets;

/// Adds both versions of the reflection service.
#[must_use]
pub fn add_to(routes: Routes) -> Routes {
    let builder = || {
        let own = tonic_reflection::server::Builder::configure();
        descriptor_sets().into_iter().fold(own, tonic_reflection::server::Builder::register_encoded_file_descriptor_set)
    };
    let built = "the descriptors are compiled in, and a test builds the service";
    routes.add_service(builder().build_v1().expect(built)).add_service(builder().build_v1alpha().expect(built))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_build_both_versions() {
        let _ = add_to(Routes::default());
    }
}
