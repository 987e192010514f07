# An empty volume cannot fill the disk of a node.
package policies.disks

violation contains {"msg": msg} if {
	some volume in input.review.object.spec.volumes
	is_object(volume.emptyDir)
	not volume.emptyDir.sizeLimit
	msg := sprintf("volume %v has no sizeLimit", [volume.name])
}
