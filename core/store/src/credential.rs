//! What a unit gets under the name of a credential (systemd.exec(5), LoadCredential=).
//!
//! Of whoever asks only the unit's name is known. So a grant counts that is pinned to that unit, and
//! to nothing else: what another pin asks for nobody could show here.

use model::{FieldName, Identity, Pins, SecretName, ServiceName};
use sys::lock::read;

use crate::error::Denied;
use crate::permit::{Permit, Reader};
use crate::store::Store;

/// A secret, or a field of it, that a unit may have.
#[derive(Debug)]
pub struct Credential {
    /// As which service the unit asks.
    pub service: ServiceName,
    /// For the secret.
    pub permit: Permit,
    /// `None`: the single value.
    pub field: Option<FieldName>,
}

/// What was asked for is not given.
#[derive(Debug)]
pub struct NoCredential {
    /// The service and the secret whose grant it would be, if there is one.
    pub grant: Option<(ServiceName, SecretName)>,
    /// Why not.
    pub why: Denied,
}

impl Store {
    /// What the credential `name` is for `unit`: `SECRET`, or `SECRET.FIELD`. Both names may have
    /// dots; among the secrets that are granted to the unit, the longest name is meant, so that a
    /// grant more or less of another unit changes nothing. If several services have that grant, it is
    /// the first, by name, whose grant has not ended.
    ///
    /// # Errors
    /// The store is sealed, or no such grant is there, or it has ended.
    pub fn credential(&self, unit: &str, name: &str) -> Result<Credential, NoCredential> {
        let pins = Pins {
            unit: Some(unit.to_owned()),
            ..Pins::default()
        };
        let identity = Identity {
            unit: pins.unit.clone(),
            ..Identity::default()
        };
        let mut refused = NoCredential {
            grant: None,
            why: Denied::NotGranted,
        };
        for (service, secret, field) in self.granted_as(&pins, name)? {
            let reader = Reader::Instance {
                service: &service,
                number: 0,
                identity: &identity,
            };
            match self.permit(reader, &secret) {
                Ok(permit) => {
                    return Ok(Credential {
                        service,
                        permit,
                        field,
                    });
                }
                Err(why) => {
                    let grant = Some((service, secret));
                    refused = NoCredential { grant, why };
                }
            }
        }
        Err(refused)
    }

    /// Grants with exactly these pins of the secret that `name` means, in the order of services.
    fn granted_as(
        &self,
        pins: &Pins,
        name: &str,
    ) -> Result<Vec<(ServiceName, SecretName, Option<FieldName>)>, NoCredential> {
        let sealed = || NoCredential {
            grant: None,
            why: Denied::Sealed,
        };
        let live = self.live().ok_or_else(sealed)?;
        let catalog = read(&live.catalog);
        // The longest secret's name first.
        let whole = [(name, None)].into_iter();
        let parts = name.rmatch_indices('.').map(|(at, _)| {
            let (secret, field) = name.split_at(at);
            (secret, Some(&field[1..]))
        });
        for (secret, field) in whole.chain(parts) {
            let Ok(secret) = secret.parse::<SecretName>() else {
                continue;
            };
            let field = match field.map(str::parse::<FieldName>) {
                None => None,
                Some(Ok(field)) => Some(field),
                Some(Err(_)) => continue,
            };
            let services = catalog.services.iter().filter(|(_, service)| {
                let granted = service.grants.get(&secret);
                granted.is_some_and(|granted| granted.pins == *pins)
            });
            let found: Vec<_> = services
                .map(|(service, _)| (service.clone(), secret.clone(), field.clone()))
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}
