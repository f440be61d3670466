"""What is to be published: the caller's spec checked, and completed with the defaults that it leaves open. Pure."""

from track_server.publishing.spec.completion import beside_of as beside_of
from track_server.publishing.spec.completion import complete as complete
from track_server.publishing.spec.completion import description_of as description_of
from track_server.publishing.spec.data import check_payload as check_payload
from track_server.publishing.spec.data import data_bps as data_bps
from track_server.publishing.spec.kinds import Stream as Stream
from track_server.publishing.spec.kinds import are_messages as are_messages
from track_server.publishing.spec.kinds import type_of as type_of
from track_server.publishing.spec.layers import SIMULCAST_EDGE as SIMULCAST_EDGE
from track_server.publishing.spec.layers import sdk_lower_layers as sdk_lower_layers
