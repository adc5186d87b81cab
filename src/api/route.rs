//! Which routes are there, what are they about, who may ask them, and what can they answer?

use crate::contract::Code;
use crate::seed::Dataset;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Books units, in the clinic.
    Practitioner,
    /// Looks, in the clinic.
    Viewer,
    /// Changes schedules, in the residency.
    Coordinator,
    /// Looks, in the residency.
    Faculty,
    /// Looks, in the residency.
    Resident,
}

impl Role {
    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "admin" => Self::Admin,
            "practitioner" => Self::Practitioner,
            "viewer" => Self::Viewer,
            "coordinator" => Self::Coordinator,
            "faculty" => Self::Faculty,
            "resident" => Self::Resident,
            _ => return None,
        })
    }
}

/// What a route is to limits, roles and the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Open to all, never limited.
    Open,
    /// Lets somebody in.
    Login,
    /// Looks.
    Read,
    /// Changes.
    Write,
}

macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident = $method:literal $path:literal, $class:ident, $dataset:expr, $action:literal, $resource:literal;)*) => {
        /// A route.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Route {
            $($(#[$doc])* $name,)*
        }

        impl Route {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        method: $method, path: $path, class: Class::$class, dataset: $dataset, action: $action, resource: $resource,
                    },)*
                }
            }
        }
    };
}

struct Row {
    method: &'static str,
    path: &'static str,
    class: Class,
    dataset: Option<Dataset>,
    action: &'static str,
    resource: &'static str,
}

const CLINIC: Option<Dataset> = Some(Dataset::Clinic);
const RESIDENCY: Option<Dataset> = Some(Dataset::Residency);

routes! {
    /// Whether it is there.
    Health = "GET" "/v1/health", Open, None, "health", "";
    /// What it says of itself.
    About = "GET" "/v1/about", Open, None, "about", "";
    /// Its own description.
    OpenApi = "GET" "/v1/openapi.json", Open, None, "openapi", "";
    /// What it has counted.
    Metrics = "GET" "/metrics", Open, None, "metrics", "";
    /// Somebody wants a token.
    Login = "POST" "/v1/login", Login, None, "login", "account";
    /// Authorisations, some at a time.
    Authorisations = "GET" "/v1/authorisations", Read, CLINIC, "authorisation.list", "authorisation";
    /// One authorisation.
    Authorisation = "GET" "/v1/authorisations/{id}", Read, CLINIC, "authorisation.view", "authorisation";
    /// What is left of it.
    Availability = "GET" "/v1/authorisations/{id}/availability", Read, CLINIC, "authorisation.availability", "authorisation";
    /// Units are promised.
    Reserve = "POST" "/v1/authorisations/{id}/reserve", Write, CLINIC, "reserve", "authorisation";
    /// Units are given back.
    Release = "POST" "/v1/authorisations/{id}/release", Write, CLINIC, "release", "authorisation";
    /// Units are used up.
    Consume = "POST" "/v1/authorisations/{id}/consume", Write, CLINIC, "consume", "authorisation";
    /// An appointment is made.
    Appoint = "POST" "/v1/appointments", Write, CLINIC, "appointment.create", "appointment";
    /// One appointment.
    Appointment = "GET" "/v1/appointments/{id}", Read, CLINIC, "appointment.view", "appointment";
    /// It does not take place.
    CancelAppointment = "POST" "/v1/appointments/{id}/cancel", Write, CLINIC, "appointment.cancel", "appointment";
    /// It took place.
    CompleteAppointment = "POST" "/v1/appointments/{id}/complete", Write, CLINIC, "appointment.complete", "appointment";
    /// People, some at a time.
    People = "GET" "/v1/people", Read, RESIDENCY, "person.list", "person";
    /// One person.
    Person = "GET" "/v1/people/{id}", Read, RESIDENCY, "person.view", "person";
    /// Half days, some at a time.
    Blocks = "GET" "/v1/blocks", Read, RESIDENCY, "block.list", "block";
    /// What can be done in a half day.
    Rotations = "GET" "/v1/rotations", Read, RESIDENCY, "rotation.list", "rotation";
    /// Who works when, some at a time.
    Assignments = "GET" "/v1/assignments", Read, RESIDENCY, "assignment.list", "assignment";
    /// What is against the rules of duty hours.
    Compliance = "GET" "/v1/compliance", Read, RESIDENCY, "compliance.view", "programme";
    /// Somebody works in a half day.
    Assign = "POST" "/v1/assignments", Write, RESIDENCY, "assignment.create", "assignment";
    /// Somebody does not work there after all.
    CancelAssignment = "POST" "/v1/assignments/{id}/cancel", Write, RESIDENCY, "assignment.cancel", "assignment";
    /// Somebody is on call.
    Call = "POST" "/v1/calls", Write, RESIDENCY, "call.create", "call";
    /// Somebody gets a half day of somebody else's.
    Swap = "POST" "/v1/swaps", Write, RESIDENCY, "swap.create", "assignment";
}

impl Route {
    /// The method, in capitals.
    pub fn method(self) -> &'static str {
        self.row().method
    }

    /// The path, as the description has it.
    pub fn path(self) -> &'static str {
        self.row().path
    }

    /// What it is to limits, roles and the audit trail.
    pub fn class(self) -> Class {
        self.row().class
    }

    /// The dataset that it is about; `None`: whichever.
    pub fn dataset(self) -> Option<Dataset> {
        self.row().dataset
    }

    /// What the audit trail calls it.
    pub fn action(self) -> &'static str {
        self.row().action
    }

    /// What the audit trail calls that which it is done to.
    pub fn resource(self) -> &'static str {
        self.row().resource
    }

    /// Whether who has that role may ask it.
    pub fn is_open_to(self, role: Role) -> bool {
        match (self.class(), self.dataset()) {
            (Class::Open | Class::Login, _) | (_, None) => true,
            (Class::Read, Some(Dataset::Clinic)) => matches!(role, Role::Admin | Role::Practitioner | Role::Viewer),
            (Class::Write, Some(Dataset::Clinic)) => matches!(role, Role::Admin | Role::Practitioner),
            (Class::Read, Some(Dataset::Residency)) => {
                matches!(role, Role::Admin | Role::Coordinator | Role::Faculty | Role::Resident)
            }
            (Class::Write, Some(Dataset::Residency)) => matches!(role, Role::Admin | Role::Coordinator),
        }
    }

    /// Whether it is a booking, which may carry a key.
    pub fn is_booking(self) -> bool {
        matches!(self, Self::Reserve | Self::Release | Self::Consume)
    }

    /// Everything that it can answer besides what was asked for.
    pub fn codes(self) -> Vec<Code> {
        use Code::*;
        let mut codes = vec![Internal];
        match self.class() {
            Class::Open => return codes,
            Class::Login => codes.extend([InvalidCredentials, RateLimited, Malformed, TooLarge, UnsupportedMediaType, Unavailable]),
            Class::Read => {
                codes.extend([
                    NoToken,
                    InvalidToken,
                    TokenExpired,
                    Role,
                    RateLimited,
                    DatasetNotHere,
                    Invalid,
                    RetriesSpent,
                    Unavailable,
                ]);
                codes.extend([WrongOrganisation, NotFound]);
            }
            Class::Write => {
                codes.extend([NoToken, InvalidToken, TokenExpired, Role, RateLimited, DatasetNotHere, Invalid]);
                codes.extend([WrongOrganisation, NotFound, RetriesSpent, Unavailable, UnknownOutcome]);
                if !matches!(self, Self::CancelAppointment | Self::CompleteAppointment) {
                    codes.extend([Malformed, TooLarge, UnsupportedMediaType]);
                }
            }
        }
        match self {
            Self::Reserve => codes.extend([InsufficientUnits, Inactive, Expired]),
            Self::Release | Self::Consume => codes.extend([NotScheduled, Inactive, Expired]),
            Self::Appoint => codes.extend([InsufficientUnits, Inactive, Expired]),
            Self::CancelAppointment | Self::CompleteAppointment => codes.extend([NotLive, NotScheduled, Inactive, Expired]),
            Self::Assign | Self::CancelAssignment | Self::Call | Self::Swap => {
                codes.extend([NoSeat, Unsupervised, DutyHours, TooLittleRest, DoubleBooked, NotHeld, AlreadySo]);
            }
            _ => {}
        }
        if self.is_booking() {
            codes.extend([KeyMismatch, KeyInFlight]);
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_route_is_one_method_of_one_path() {
        let routes: BTreeSet<_> = Route::ALL.iter().map(|route| (route.method(), route.path())).collect();
        assert_eq!(routes.len(), Route::ALL.len());
        for route in Route::ALL {
            assert_eq!(route.class() == Class::Write, route.method() == "POST" && *route != Route::Login, "{route:?}");
            assert_eq!(route.dataset().is_some(), matches!(route.class(), Class::Read | Class::Write), "{route:?}");
        }
    }

    #[test]
    fn who_only_looks_changes_nothing() {
        for route in Route::ALL.iter().filter(|route| route.class() == Class::Write) {
            for role in [Role::Viewer, Role::Faculty, Role::Resident] {
                assert!(!route.is_open_to(role), "{route:?} {role:?}");
            }
            assert!(route.is_open_to(Role::Admin), "{route:?}");
        }
        assert!(!Route::Reserve.is_open_to(Role::Coordinator) && !Route::Assign.is_open_to(Role::Practitioner));
    }
}
