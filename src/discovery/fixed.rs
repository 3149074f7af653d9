//! Instances that the configuration lists. Pure.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::health::permit;
use crate::model::{
    instance::{Address, Health, Instance},
    name::ServiceName,
    topology::{Rejected, Update},
};

/// The list of a service with fixed addresses: always healthy, of equal weight.
pub fn update(service: &ServiceName, addresses: &[Address], deny: &[IpNet]) -> Update {
    let service = service.clone();
    let mut update = Update { service, datacenter: None, instances: Vec::new(), rejected: Vec::new() };
    for address in addresses {
        let id = address.to_string().into();
        match permit(address.clone(), deny) {
            Ok(address) => update.instances.push(Instance {
                id,
                node: String::new(),
                address,
                health: Health::Passing,
                weight: 1,
                tags: Vec::new(),
                meta: BTreeMap::new(),
                datacenter: String::new(),
                create_index: 0,
            }),
            Err(why) => update.rejected.push(Rejected { id, datacenter: String::new(), why }),
        }
    }
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::AddressError;

    #[test]
    fn fixed_addresses_are_healthy_instances_unless_denied() {
        let addresses = [("10.0.0.7", 80), ("169.254.169.254", 80), ("files.internal", 8080)];
        let addresses = addresses.map(|(host, port)| Address::new(host, port).unwrap());
        let update = update(&"files".into(), &addresses, &["169.254.0.0/16".parse().unwrap()]);
        let told: Vec<_> = update.instances.iter().map(|i| (i.id.as_str(), i.health, i.weight)).collect();
        assert_eq!(told, [("10.0.0.7:80", Health::Passing, 1), ("files.internal:8080", Health::Passing, 1)]);
        let denied = AddressError::Denied("169.254.169.254".parse().unwrap());
        let id = "169.254.169.254:80".into();
        assert_eq!(update.rejected, [Rejected { id, datacenter: String::new(), why: denied }]);
    }
}
