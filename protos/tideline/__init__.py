"""The contract of Tideline's services: protobuf stubs, and how Python honours them."""
