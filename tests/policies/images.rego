# An image is named by its digest.
package policies.images

violation contains {"msg": msg} if {
	some one in input.review.object.spec.containers
	not regex.match(`@sha256:[0-9a-f]{64}$`, one.image)
	msg := sprintf("container %v: %v has no digest", [one.name, one.image])
}
